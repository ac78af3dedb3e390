// The door: shown when the service wants a key. The key is posted once; the answer is a cookie no script can read.

import * as api from "./api.js";
import { byId, setHidden, setText } from "./dom.js";
import { tellTrouble } from "./frame.js";

const KEY = "safelight.has-key";

export class Login {
  /** `onOpen()` is called when a key has opened the door. */
  constructor(onOpen) {
    this.onOpen = onOpen;
    // No script can see the cookie, so the page remembers that it asked for one.
    setHidden(byId("logout"), localStorage.getItem(KEY) === null);
    byId("logout").addEventListener("click", () => this.#close());
    byId("login-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#open();
    });
  }

  /** Ask for a key; `reason` says why the one at hand will not do. */
  show(reason = "") {
    if (this.isOpen) return;
    setText(byId("login-error"), reason);
    setHidden(byId("login-error"), reason === "");
    setHidden(byId("login"), false);
    setHidden(byId("board"), true);
    setHidden(byId("job"), true);
    byId("login-key").focus();
  }

  get isOpen() {
    return !byId("login").hidden;
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
    localStorage.setItem(KEY, "1");
    setHidden(byId("logout"), false);
    this.onOpen();
  }

  async #close() {
    try {
      await api.logOut();
    } catch (problem) {
      tellTrouble(problem.message);
      return;
    }
    localStorage.removeItem(KEY);
    location.reload(); // the surest way to forget everything that the key had opened
  }
}
