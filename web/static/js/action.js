// A button that asks the service for something: pressed twice it asks once, and a refusal is shown.

import { make } from "./dom.js";
import { tellTrouble } from "./frame.js";

/** `act()` gives a promise. What it changes comes back as an event, so nothing is drawn here. */
export function actionButton(text, act, attributes = {}) {
  const button = make("button", { type: "button", onclick: press, ...attributes }, text);
  async function press() {
    if (button.ariaBusy === "true") return;
    button.ariaBusy = "true"; // not disabled: that would take the focus from a keyboard
    try {
      await act();
    } catch (problem) {
      tellTrouble(problem.message);
    } finally {
      button.ariaBusy = null;
    }
  }
  return button;
}
