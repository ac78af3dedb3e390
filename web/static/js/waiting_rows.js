// The waiting jobs as a table that has only the rows one can see: fixed row height, rows pooled and moved.
// With 2,000 jobs and 200 changes a second this costs 3 ms a frame where 2,000 real rows cost 100 (docs/page.md).

import * as api from "./api.js";
import { actionButton } from "./action.js";
import { make, setAttribute, setText } from "./dom.js";
import { clock, title } from "./format.js";

const ROW_PX = 44; // as --row in queue.css
const BEYOND = 6; // rows kept ready above and below what is seen

export class WaitingRows {
  #jobs = [];
  #shown = new Map(); // job id -> Row
  #spare = [];
  #body = make("div", { role: "rowgroup", class: "body" });
  #isScrolling = false;

  /** `rank(job)` gives its place in its own queue. */
  constructor(table, rank) {
    Object.assign(this, { table, rank });
    const cells = ["Place", "Job", "Model", "Since", "Cancel"].map((name) =>
      make("span", { role: "columnheader", class: name.toLowerCase() }, name),
    );
    const head = make("div", { role: "row", class: "row head", "aria-rowindex": 1 }, ...cells);
    table.append(make("div", { role: "rowgroup" }, head), this.#body);
    table.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#place()).observe(table);
  }

  draw(jobs) {
    this.#jobs = jobs;
    setAttribute(this.table, "aria-rowcount", jobs.length + 1);
    this.#body.style.height = `${jobs.length * ROW_PX}px`;
    this.#place();
  }

  #scrolled() {
    if (this.#isScrolling) return;
    this.#isScrolling = true;
    requestAnimationFrame(() => {
      this.#isScrolling = false;
      this.#place();
    });
  }

  /** Put the rows that can be seen where they belong. A row stays with its job while that is in sight. */
  #place() {
    const { scrollTop, clientHeight } = this.table;
    const first = Math.max(0, Math.floor(scrollTop / ROW_PX) - BEYOND);
    const seen = this.#jobs.slice(first, Math.ceil((scrollTop + clientHeight) / ROW_PX) + BEYOND);
    const wanted = new Set(seen.map(({ id }) => id));
    for (const [id, row] of this.#shown) if (!wanted.has(id)) this.#release(id, row);
    // In the document in the order they are seen: Tab and a screen reader follow that, not the transform.
    let next = this.#body.firstElementChild;
    seen.forEach((job, offset) => {
      let row = this.#shown.get(job.id);
      if (!row) this.#shown.set(job.id, (row = this.#spare.pop() ?? new Row()));
      row.update(job, first + offset, this.rank(job));
      if (row.node === next) next = next.nextElementSibling;
      else this.#body.insertBefore(row.node, next);
    });
  }

  #release(id, row) {
    // The focus must not pass to whichever job the row shows next: Enter would cancel that one.
    if (row.node.contains(document.activeElement)) this.table.focus({ preventScroll: true });
    row.node.remove();
    this.#shown.delete(id);
    this.#spare.push(row);
  }
}

class Row {
  #job = null;

  constructor() {
    this.place = make("span", { role: "cell", class: "place" });
    this.link = make("a", {});
    this.model = make("span", { role: "cell", class: "model" });
    this.since = make("span", { role: "cell", class: "since" });
    this.cancel = actionButton("×", () => api.cancel(this.#job.id), { class: "quiet", title: "Cancel" });
    this.node = make(
      "div",
      { role: "row", class: "row" },
      this.place,
      make("span", { role: "cell", class: "job" }, this.link),
      this.model,
      this.since,
      make("span", { role: "cell", class: "cancel" }, this.cancel),
    );
  }

  update(job, index, rank) {
    this.node.style.transform = `translateY(${index * ROW_PX}px)`;
    setAttribute(this.node, "aria-rowindex", index + 2); // the head is 1
    setText(this.place, String(rank));
    if (job === this.#job) return;
    this.#job = job;
    setText(this.link, title(job));
    setAttribute(this.link, "href", `#/jobs/${job.id}`);
    setAttribute(this.node, "data-job", job.id);
    setText(this.model, job.priority === 50 ? job.model : `${job.model}, priority ${job.priority}`);
    setText(this.since, clock(job.created_at));
    setAttribute(this.cancel, "aria-label", `Cancel: ${title(job)}`);
  }
}
