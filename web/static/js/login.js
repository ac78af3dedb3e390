// The door: shown when the service wants a key. The key is posted once; the answer is a cookie no script can read.

import * as api from "./api.js";
import { byId, setHidden, setText } from "./dom.js";

export class Login {
  /** `onOpen()` is called when a key has opened the door. */
  constructor(onOpen) {
    this.onOpen = onOpen;
    byId("login-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#open();
    });
  }

  show() {
    if (!byId("login").hidden) return;
    setHidden(byId("login"), false);
    setHidden(byId("board"), true);
    setHidden(byId("job"), true);
    byId("login-key").focus();
  }

  hide() {
    setHidden(byId("login"), true);
  }

  async #open() {
    const input = byId("login-key");
    const error = byId("login-error");
    setHidden(error, true);
    try {
      await api.logIn(input.value.trim());
    } catch (problem) {
      setText(error, problem.message);
      setHidden(error, false);
      input.focus();
      return;
    }
    input.value = "";
    this.onOpen();
  }
}
