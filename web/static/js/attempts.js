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
    make("p", {}, make("span", { class: "number" }, `${attempt.attempt}`), `${worker}: ${end}`),
    detail && outcome !== "failed" ? make("p", { class: "hint" }, detail) : null,
    attempt.phases.length ? strip(attempt) : null,
  );
}

function strip({ phases, ended_at }) {
  const now = new Date(Date.now() - api.clockAhead_ms).toISOString();
  const parts = phases.map(({ phase, at }, index) => {
    const isOpen = !phases[index + 1] && !ended_at;
    const seconds = Math.max(0, secondsBetween(at, phases[index + 1]?.at ?? ended_at ?? now));
    const part = make(
      "li",
      { "data-phase": phase, "data-open": isOpen },
      make("span", { class: "phase-name" }, sentence(phase)),
      make("span", { class: "phase-took" }, isOpen ? "now" : duration(seconds)),
    );
    part.style.flexGrow = Math.max(seconds, 0.001);
    return part;
  });
  return make("ol", { class: "strip", "aria-label": "Phases" }, ...parts);
}
