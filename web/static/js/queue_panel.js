// The queues: by which rules each is run, how full it is, and its pause, drain and resume.

import * as api from "./api.js";
import { actionButton } from "./action.js";
import { byId, KeyedChildren, make, setHidden, setText } from "./dom.js";
import { duration, plural } from "./format.js";

const POLICIES = { fifo: "first come, first served", fair: "fair shares of GPU time" };

export class QueuePanel {
  #lines = new KeyedChildren(byId("queue-controls"), ({ queue }) => queue.name, makeLine);

  constructor(store) {
    this.store = store;
  }

  draw(waiting) {
    const counts = new Map(); // queue -> jobs that wait
    for (const { queue } of waiting) counts.set(queue, (counts.get(queue) ?? 0) + 1);
    const { queues } = this.store;
    const isOnly = queues.size === 1;
    this.#lines.sync([...queues.values()].map((queue) => ({ queue, isOnly, waiting: counts.get(queue.name) ?? 0 })));
  }

  /** What keeps a queue from doing what it is for: banners {key, text}. */
  reasons() {
    return [...this.store.queues.values()].flatMap(({ name, is_paused, pause_reason, is_drained }) => [
      ...(is_paused ? [{ key: `paused ${name}`, text: pausedWords(name, pause_reason) }] : []),
      ...(is_drained ? [{ key: `drained ${name}`, text: drainedWords(name) }] : []),
    ]);
  }
}

function pausedWords(name, reason) {
  const why = reason === "crash" ? ", because the service had not come to a good end" : "";
  return `The queue ${name} is paused${why}: what runs goes on, nothing new starts.`;
}

const drainedWords = (name) => `The queue ${name} is drained: what waits is still run, nothing new is taken.`;

function makeLine({ queue: { name } }) {
  let queue = null;
  const label = make("strong", {}, name);
  const facts = make("span", { class: "facts" });
  const pause = actionButton("Pause", () => (queue.is_paused ? api.resume(name) : api.pause(name)), { class: "quiet" });
  const drain = actionButton("Drain", () => (queue.is_drained ? api.resume(name) : api.drain(name)), { class: "quiet" });
  return {
    node: make("div", { class: "queue-line" }, label, facts, pause, drain),
    update({ queue: newest, isOnly, waiting }) {
      queue = newest;
      const of = isOnly ? "" : ` ${name}`;
      setHidden(label, isOnly);
      setText(facts, factsOf(queue.rules, waiting));
      setText(pause, (queue.is_paused ? "Resume" : "Pause") + of);
      setText(drain, (queue.is_drained ? "Take jobs again" : "Drain") + of);
      setHidden(drain, queue.is_drained && queue.is_paused); // Resume ends both
    },
  };
}

function factsOf({ policy, capacity, keep_s, keep_jobs }, waiting) {
  const kept = [keep_s === null ? "" : `results ${duration(keep_s)}`, keep_jobs === null ? "" : plural(keep_jobs, "result")];
  const keeps = kept.filter(Boolean).join(", at most ");
  const room = capacity === null ? "" : `${waiting.toLocaleString("en")} of ${capacity.toLocaleString("en")} places taken`;
  return [POLICIES[policy], room, keeps && `keeps ${keeps}`].filter(Boolean).join(" · ");
}
