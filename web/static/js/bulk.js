// The same for many jobs at once: all that match, and their number is said before anything is done.

import * as api from "./api.js";
import { openDialog } from "./dialog.js";
import { make, setAttribute, setText } from "./dom.js";
import { plural } from "./format.js";
import { announce, tellTrouble } from "./frame.js";

const ACTIONS = { cancel: "Cancel", retry: "Retry", hold: "Hold", release: "Release" };
const MEANT = {
  cancel: ["queued", "scheduled", "held", "running"],
  retry: ["failed", "cancelled", "expired"],
  hold: ["queued", "scheduled"],
  release: ["held"],
};
const ERRORS = ["invalid-input", "model-missing", "out-of-memory", "crash", "timeout", "lost", "internal"];
const NO_ROOM = ["queue-full", "limit-reached"];
const COUNT_MS = 200; // after the last change of a field

/** Open the dialog with `action` chosen. */
export function openBulk(store, action) {
  const models = store.models.map(({ id }) => id);
  const fields = {
    action: choice("What to do", Object.entries(ACTIONS)),
    status: choice("Status", []),
    queue: choice("Queue", any([...store.queues.keys()])),
    model: choice("Model", any(models)),
    error: choice("Failed with", any(ERRORS)),
    tag: text("Tag"),
    submitter: text("Submitter"),
    batch: text("Batch"),
  };
  fields.action.control.value = action;
  let matched = null;
  let timer = 0;
  let asked = 0;

  async function count() {
    const number = ++asked;
    try {
      const answer = await api.bulk(fields.action.control.value, whichOf(fields));
      if (number === asked) show(answer.matched);
    } catch (problem) {
      if (number === asked) say(problem.message);
    }
  }

  function show(number) {
    matched = number;
    const verb = ACTIONS[fields.action.control.value];
    setText(button, number ? `${verb} ${plural(number, "job")}` : "Nothing matches");
    setAttribute(button, "aria-disabled", number ? null : "true");
    announce(number ? `${plural(number, "job")} match` : "Nothing matches");
  }

  function say(message) {
    show(0);
    setText(button, message);
  }

  async function act() {
    if (!matched) return false;
    const { done, refused } = await api.bulk(fields.action.control.value, whichOf(fields), matched);
    const noRoom = NO_ROOM.reduce((sum, kind) => sum + (refused[kind] ?? 0), 0);
    const late = Object.values(refused).reduce((sum, number) => sum + number, 0) - noRoom;
    announce(`${plural(done, "job")} done${late ? `, ${late} had moved on` : ""}`);
    if (noRoom)
      tellTrouble(
        `${plural(noRoom, "job")} found no room to come back to: a queue is full or drained, or a key has enough waiting`,
      );
    return true;
  }

  /** The number has changed since it was said: say the new one, and let the person decide again. */
  function onProblem({ facts }) {
    if (!facts.type?.endsWith("count-changed")) return false;
    show(facts.count);
    return true;
  }

  function changed() {
    clearTimeout(timer);
    timer = setTimeout(count, COUNT_MS);
  }

  function chooseStatus() {
    const options = any(MEANT[fields.action.control.value]);
    fields.status.control.replaceChildren(...options.map(([value, name]) => make("option", { value }, name)));
    fields.error.node.hidden = fields.action.control.value !== "retry";
  }

  fields.action.control.addEventListener("change", chooseStatus);
  chooseStatus();
  const grid = make("div", { class: "fields", oninput: changed }, ...Object.values(fields).map(({ node }) => node));
  const { button } = openDialog("Several at once", { content: [grid], submit: "…", act, onProblem });
  count();
}

function whichOf({ action, status, error, ...others }) {
  const which = {};
  if (status.control.value) which.status = [status.control.value];
  if (error.control.value && action.control.value === "retry") which.error = error.control.value;
  for (const [name, { control }] of Object.entries(others)) if (control.value.trim()) which[name] = control.value.trim();
  return which;
}

const any = (values) => [["", "any"], ...values.map((value) => [value, value])];

function choice(name, options) {
  return labelled(name, make("select", {}, ...options.map(([value, text]) => make("option", { value }, text))));
}

const text = (name) => labelled(name, make("input", { type: "text" }));

function labelled(name, control) {
  return { control, node: make("label", { class: "field" }, make("span", {}, name), control) };
}
