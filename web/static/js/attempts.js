// The tries of a job, each as a strip whose parts are as long as its phases took.

import * as api from "./api.js";
import { make, setHidden, setText } from "./dom.js";
import { duration, secondsBetween, sentence, words } from "./format.js";

export class Attempts {
  #drawn = null;

  constructor() {
    this.list = make("ol", {});
    this.heading = make("h2", { id: "attempts-heading" });
    this.node = make("section", { class: "attempts", "aria-labelledby": "attempts-heading" }, this.heading, this.list);
  }

  draw({ attempts }) {
    setHidden(this.node, attempts.length === 0);
    if (attempts === this.#drawn) return; // the fold keeps the array while nothing in it has changed
    this.#drawn = attempts;
    setText(this.heading, attempts.length === 1 ? "Attempt" : "Attempts");
    this.list.replaceChildren(...attempts.map(attemptItem));
  }
}

function attemptItem(attempt) {
  const { worker, started_at, ended_at, outcome, detail } = attempt;
  const took = ended_at ? ` after ${duration(secondsBetween(started_at, ended_at))}` : "";
  const end = outcome ? `${words(outcome)}${took}` : "running";
  return make(
    "li",
    { "data-outcome": outcome ?? "running" },
    make("p", {}, make("span", { class: "number" }, String(attempt.attempt)), `${worker}: ${end}`),
    detail && outcome !== "failed" ? make("p", { class: "hint" }, detail) : null,
    ...(attempt.phases.length ? phasesOf(attempt) : []),
  );
}

/** A strip for the eye, and the same as words: a short phase leaves no room for its name in the strip. */
function phasesOf({ phases, ended_at }) {
  const now = new Date(Date.now() - api.clockAhead_ms).toISOString();
  const strip = make("div", { class: "strip", "aria-hidden": "true" });
  const list = make("ul", { class: "phases", "aria-label": "Phases" });
  phases.forEach(({ phase, at }, index) => {
    const isOpen = !phases[index + 1] && !ended_at;
    const seconds = Math.max(0, secondsBetween(at, phases[index + 1]?.at ?? ended_at ?? now));
    const part = make("span", { "data-phase": phase, "data-open": isOpen });
    part.style.flexGrow = Math.max(1, seconds * 1000); // a sum below 1 would not fill the strip
    strip.append(part);
    const took = make("span", { class: "took" }, isOpen ? "now" : duration(seconds));
    list.append(make("li", {}, `${sentence(phase)} `, took));
  });
  return [strip, list];
}
