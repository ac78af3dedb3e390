// A job's history as a list of sentences, each with its time, its author and the record as the log has it.

import { make } from "./dom.js";
import { duration, instant, plural, secondsBetween, sentence, words } from "./format.js";
import { expiredWords } from "./waits.js";

const SENTENCES = {
  "job-submitted": ({ data }) =>
    `Submitted to queue ${data.queue}${data.priority === 50 ? "" : `, priority ${data.priority}`}`,
  "job-became-due": () => "Its time has come: in line",
  "job-held": () => "Held: out of line until it is released",
  "job-released": () => "Released",
  "job-moved": ({ data }) => `Moved within its line, priority ${data.priority}`,
  "job-edited": ({ data }) => `Changed: ${data.model} in queue ${data.queue}, priority ${data.priority}`,
  "job-expired": ({ data }) => `Expired: ${expiredWords(data.deadline)}`,
  "job-leased": ({ data }) =>
    data.adopted ? `${data.worker} came back and goes on with it` : `Taken by ${data.worker}, attempt ${data.attempt}`,
  "job-phase-entered": ({ data }) => sentence(data.phase),
  "job-requeued": ({ data }) => {
    const again = data.not_before_us ? `To be tried again at ${timeOf(instant(data.not_before_us))}` : "Back in line";
    return `${again}: ${words(data.reason)}${data.detail ? `, ${data.detail}` : ""}`;
  },
  "job-cancel-requested": () => "Cancel asked for; its worker is told to stop",
  "job-completed": ({ data }) => `Completed with ${plural(data.artifacts.length, "file")}`,
  "job-failed": ({ data }) => `Failed: ${data.error.message}`,
  "job-cancelled": ({ data }) => (data.step ? `Cancelled at step ${data.step}` : "Cancelled"),
  "job-retried": () => "Sent back to its queue",
};

export class Timeline {
  #events = []; // by position, each once

  constructor() {
    this.list = make("ol", { class: "events" });
    this.node = make(
      "section",
      { class: "timeline", "aria-labelledby": "timeline-heading" },
      make("h2", { id: "timeline-heading" }, "Timeline"),
      this.list,
    );
  }

  /** Take in events, old and new; the ones known already are left out. */
  add(events) {
    for (const event of events) {
      if (this.#events.some(({ position }) => position === event.position)) continue;
      const at = this.#events.findLastIndex(({ position }) => position < event.position) + 1;
      this.#events.splice(at, 0, event);
      const next = this.list.children[at] ?? null;
      this.list.insertBefore(entry(event, this.#events[at - 1] ?? null), next);
    }
  }
}

function entry(event, previous) {
  const say = SENTENCES[event.type] ?? (() => sentence(event.type));
  const { stream, ...record } = event;
  return make(
    "li",
    { "data-type": event.type },
    make("time", { datetime: event.at }, timeOf(event.at)),
    make(
      "div",
      {},
      make("p", { class: "what" }, say(event)),
      make(
        "details",
        {},
        make("summary", {}, about(event, previous)),
        make("pre", { tabindex: "0" }, JSON.stringify(record, null, 2)),
      ),
    ),
  );
}

function about({ at, actor, position }, previous) {
  const since = previous ? [`+${duration(secondsBetween(previous.at, at))}`] : [];
  return [...since, actor, `record ${position}`].join(" · ");
}

/** Hours to seconds: a job's events are seldom a minute apart. */
function timeOf(at) {
  return new Date(at).toLocaleTimeString("en-GB");
}
