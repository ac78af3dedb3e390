// A button that asks the service for something: it cannot be pressed twice, and a refusal is shown.

import { make } from "./dom.js";
import { tellTrouble } from "./frame.js";

/** `act()` gives a promise. What it changes comes back as an event, so nothing is drawn here. */
export function actionButton(text, act, attributes = {}) {
  const button = make("button", { type: "button", onclick: press, ...attributes }, text);
  async function press() {
    button.disabled = true;
    try {
      await act();
    } catch (problem) {
      tellTrouble(problem.message);
    } finally {
      button.disabled = false;
    }
  }
  return button;
}
