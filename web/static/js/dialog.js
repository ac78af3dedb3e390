// A dialog of the platform with a heading, something in it, and a way to leave; gone when it is closed.

import { make, setHidden, setText } from "./dom.js";

let count = 0;

/** Show it. `act()` is called by the main button and gives a promise; when that is kept, the dialog closes. */
export function openDialog(heading, { content, submit, act, onProblem }) {
  const id = `dialog-${++count}`;
  const error = make("p", { class: "error", role: "alert", hidden: true });
  const button = make("button", { type: "submit", class: "primary" }, submit);
  const leave = make("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Leave");
  const form = make(
    "form",
    { novalidate: true, onsubmit: send },
    make("h2", { id }, heading),
    ...content,
    error,
    make("div", { class: "submit-row" }, button, leave),
  );
  const dialog = make("dialog", { "aria-labelledby": id, onclose: () => dialog.remove() }, form);

  async function send(event) {
    event.preventDefault();
    if (button.ariaBusy === "true") return;
    button.ariaBusy = "true";
    setHidden(error, true);
    try {
      if ((await act()) !== false) dialog.close();
    } catch (problem) {
      if (onProblem?.(problem)) return;
      setText(error, problem.message.replaceAll("`", ""));
      setHidden(error, false);
    } finally {
      button.ariaBusy = null;
    }
  }

  document.body.append(dialog);
  dialog.showModal();
  return { dialog, button };
}
