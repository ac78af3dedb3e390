// The live queue: what runs, what waits, whether it is paused, and why nothing runs when nothing does.

import { openBulk } from "./bulk.js";
import { byId, KeyedChildren, make, setHidden, setText } from "./dom.js";
import { plural, title } from "./format.js";
import { QueuePanel } from "./queue_panel.js";
import { RunningCard } from "./running_card.js";
import { WaitingRows } from "./waiting_rows.js";

const EMPTY = "Nothing runs and nothing waits. Submit something and watch it develop.";
const STALE = "The service does not answer. This is how things stood; the page goes on by itself.";
const FILTER_FROM = 8; // jobs; fewer can be read

export class Queue {
  #cards = new KeyedChildren(
    byId("running"),
    ({ id }) => id,
    (job) => new RunningCard(job, this.previews),
    byId("queue-heading"),
  );
  #banners = new KeyedChildren(byId("banners"), ({ key }) => key, makeBanner);
  #rows = null;

  /** `isLive()` tells whether what is shown is how things stand. */
  constructor({ store, previews, isLive }) {
    Object.assign(this, { store, previews, isLive });
    this.panel = new QueuePanel(store);
    this.#rows = new WaitingRows(byId("rows"), store);
    byId("filter").addEventListener("input", () => this.draw());
    byId("several").addEventListener("click", () => openBulk(store, "cancel"));
  }

  draw() {
    const { store } = this;
    if (!store.hasSnapshot) return;
    const waiting = store.waiting();
    const running = [...store.running.values()].sort((a, b) => (a.started_at < b.started_at ? -1 : 1));
    this.#cards.sync(running);
    this.#banners.sync(this.#reasons(waiting));
    this.panel.draw(waiting);
    setText(byId("queue-counts"), `${running.length} running, ${waiting.length.toLocaleString("en")} waiting`);
    const isEmpty = running.length + waiting.length === 0;
    setText(byId("queue-empty"), isEmpty ? EMPTY : "");
    setHidden(byId("queue-empty"), !isEmpty);
    this.#drawWaiting(waiting);
  }

  /** Once a second: what changes by time alone. */
  tick() {
    for (const card of this.#cards.parts.values()) card.tick();
  }

  #drawWaiting(waiting) {
    const filter = byId("filter");
    const wanted = filter.value.trim().toLowerCase();
    setHidden(byId("waiting"), waiting.length === 0);
    setHidden(byId("filter-label"), waiting.length < FILTER_FROM && wanted === "");
    const shown = wanted ? waiting.filter((job) => matches(job, wanted)) : waiting;
    setHidden(byId("filter-empty"), shown.length > 0 || waiting.length === 0);
    setHidden(byId("rows"), shown.length === 0);
    this.#rows.draw(shown);
  }

  /** Why waiting jobs do not run, as far as one knows: banners, one a reason. */
  #reasons(waiting) {
    if (!this.isLive()) return [{ key: "stale", text: STALE }];
    const reasons = this.panel.reasons();
    if (![...this.store.workers.values()].some((worker) => worker.is_connected)) {
      const text = "No worker is connected. Jobs wait until one comes: safelight worker --server URL starts one.";
      return [...reasons, { key: "no worker", text }];
    }
    const stuck = new Map(); // why -> how many jobs
    for (const job of waiting) {
      const why = this.store.blocked(job);
      if (why) stuck.set(why, (stuck.get(why) ?? 0) + 1);
    }
    for (const [why, count] of stuck)
      reasons.push({ key: why, text: `No worker can run ${plural(count, "waiting job")}: ${why}.` });
    return reasons;
  }
}

function matches(job, wanted) {
  const texts = [title(job), job.status, job.model, job.submitter, job.id, job.batch ?? "", ...job.tags];
  return texts.some((text) => text.toLowerCase().includes(wanted));
}

function makeBanner() {
  const node = make("p", { class: "banner" });
  return { node, update: ({ text }) => setText(node, text) };
}
