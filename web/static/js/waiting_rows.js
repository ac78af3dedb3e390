// The waiting jobs as a table that has only the rows one can see: fixed row height, rows pooled and moved.
// With 2,000 jobs and 200 changes a second this costs 3 ms a frame where 2,000 real rows cost 100 (docs/page.md).

import * as api from "./api.js";
import { actionButton } from "./action.js";
import { make, setAttribute, setText } from "./dom.js";
import { title } from "./format.js";
import { movesOf } from "./job_actions.js";
import { JobMenu } from "./job_menu.js";
import { Moving } from "./moving.js";
import { chip, chipsOf, etaWords, readyWords } from "./waits.js";

const ROW_PX = 44; // as --row in queue.css
const BEYOND = 6; // rows kept ready above and below what is seen
const STEPS = { ArrowUp: "Up", ArrowDown: "Down", Home: "Run next", End: "To the end" }; // with Alt

export class WaitingRows {
  #jobs = [];
  #shown = new Map(); // job id -> Row
  #spare = [];
  #body = make("div", { role: "rowgroup", class: "body" });
  #isScrolling = false;

  constructor(table, store) {
    Object.assign(this, { table, store, menu: new JobMenu(store) });
    const cells = ["Place", "Job", "Model", "Ready", "Actions"].map((name) =>
      make("span", { role: "columnheader", class: name.toLowerCase() }, name),
    );
    const head = make("div", { role: "row", class: "row head", "aria-rowindex": 1 }, ...cells);
    table.append(make("div", { role: "rowgroup" }, head), this.#body);
    table.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    table.addEventListener("keydown", (event) => this.#key(event));
    new Moving(this.#body, (id) => this.store.jobs.get(id));
    new ResizeObserver(() => this.#place()).observe(table);
  }

  draw(jobs) {
    this.#jobs = jobs;
    setAttribute(this.table, "aria-rowcount", jobs.length + 1);
    this.#body.style.height = `${jobs.length * ROW_PX}px`;
    this.#place();
    this.menu.draw();
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
    const focused = document.activeElement;
    // In the document in the order they are seen: Tab and a screen reader follow that, not the transform.
    let next = this.#body.firstElementChild;
    seen.forEach((job, offset) => {
      let row = this.#shown.get(job.id);
      if (!row) this.#shown.set(job.id, (row = this.#spare.pop() ?? new Row(this.menu)));
      row.update(job, first + offset, this.store);
      if (row.node === next) next = next.nextElementSibling;
      else this.#body.insertBefore(row.node, next);
    });
    // A row that was moved in the document has lost the focus it had.
    if (focused !== document.activeElement && this.#body.contains(focused)) focused.focus({ preventScroll: true });
  }

  /** Alt and an arrow move the job whose row has the focus. */
  #key(event) {
    const name = event.altKey ? STEPS[event.key] : undefined;
    const job = name && this.store.jobs.get(event.target.closest("[data-job]")?.dataset.job);
    if (!job) return;
    event.preventDefault();
    movesOf(job, this.store).find((move) => move.name === name)?.act();
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
  #why = null;
  #eta = null;

  constructor(menu) {
    this.place = make("span", { role: "cell", class: "place" });
    this.link = make("a", { draggable: "false" });
    this.chips = make("span", { class: "chips-of" });
    this.model = make("span", { role: "cell", class: "model" });
    this.ready = make("span", { role: "cell", class: "ready" });
    const open = () => menu.open(this.#job, this.more);
    this.more = make("button", { type: "button", class: "quiet", title: "More actions", onclick: open }, "⋯");
    this.cancel = actionButton("×", () => api.cancel(this.#job.id), { class: "quiet", title: "Cancel" });
    this.node = make(
      "div",
      { role: "row", class: "row" },
      this.place,
      make("span", { role: "cell", class: "job" }, this.link, this.chips),
      this.model,
      this.ready,
      make("span", { role: "cell", class: "actions" }, this.more, this.cancel),
    );
  }

  update(job, index, store) {
    const why = store.blocked(job);
    const eta = store.eta(job);
    this.node.style.transform = `translateY(${index * ROW_PX}px)`;
    setAttribute(this.node, "aria-rowindex", index + 2); // the head is 1
    setText(this.place, String(store.rank(job) ?? "–"));
    if (job === this.#job && why === this.#why && eta === this.#eta) return;
    this.#job = job;
    this.#why = why;
    this.#eta = eta;
    const name = title(job);
    setText(this.link, name);
    setAttribute(this.link, "href", `#/jobs/${job.id}`);
    setAttribute(this.node, "data-job", job.id);
    setAttribute(this.node, "draggable", job.status === "queued");
    setText(this.model, job.priority === 50 ? job.model : `${job.model}, priority ${job.priority}`);
    setText(this.ready, readyWords(eta));
    setAttribute(this.ready, "title", etaWords(eta) || null);
    this.chips.replaceChildren(...chipsOf(job, why).map(chip));
    setAttribute(this.more, "aria-label", `More actions: ${name}`);
    setAttribute(this.cancel, "aria-label", `Cancel: ${name}`);
  }
}
