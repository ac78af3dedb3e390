// What stands around the views: the lamp of the connection, the tab's title, what went wrong with a click.

import { byId, setAttribute, setHidden, setText } from "./dom.js";

const STATES = { connecting: "connecting", live: "live", reconnecting: "reconnecting", refused: "not connected" };
const TROUBLE_MS = 12_000;

export class Frame {
  constructor(socket, store) {
    Object.assign(this, { socket, store });
    byId("trouble-close").addEventListener("click", () => setHidden(byId("trouble"), true));
  }

  draw() {
    const { state, reason } = this.socket;
    setAttribute(byId("connection"), "data-state", state);
    setText(byId("connection-text"), state === "refused" && reason ? reason : STATES[state]);
    const active = this.store.running.size + this.store.waiting().length;
    document.title = active > 0 ? `(${active}) Safelight` : "Safelight";
  }
}

let timer = 0;

/** Show what a click could not do. It goes by itself, or when it is closed. */
export function tellTrouble(text) {
  setText(byId("trouble-text"), text);
  setHidden(byId("trouble"), false);
  clearTimeout(timer);
  timer = setTimeout(() => setHidden(byId("trouble"), true), TROUBLE_MS);
}

/** Say something to a screen reader and to nobody else. */
export function announce(text) {
  setText(byId("announcer"), text);
}
