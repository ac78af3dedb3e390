// Moving a job within its line by hand: a row is dragged, and a mark shows where it would stand.

import * as api from "./api.js";
import { setAttribute } from "./dom.js";
import { tellTrouble } from "./frame.js";

export class Moving {
  #dragged = null; // a job
  #over = null; // the row with the mark

  /** Rows in `body` are [data-job]; `jobOf(id)` gives the job. */
  constructor(body, jobOf) {
    this.jobOf = jobOf;
    body.addEventListener("dragstart", (event) => this.#start(event));
    body.addEventListener("dragover", (event) => this.#drag(event));
    body.addEventListener("dragleave", ({ relatedTarget }) => body.contains(relatedTarget) || this.#mark(null));
    body.addEventListener("drop", (event) => this.#drop(event));
    body.addEventListener("dragend", () => this.#end());
  }

  #start(event) {
    const row = event.target.closest("[data-job]");
    this.#dragged = this.jobOf(row?.dataset.job) ?? null;
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData("text/plain", this.#dragged?.id ?? "");
  }

  /** Only where it can be dropped is the default, which refuses, prevented. */
  #drag(event) {
    const place = this.#placeAt(event);
    this.#mark(place);
    if (place) event.preventDefault();
  }

  async #drop(event) {
    const place = this.#placeAt(event);
    const job = this.#dragged;
    this.#end();
    if (!place) return;
    event.preventDefault();
    try {
      await api.move(job.id, place.where, place.other.id);
    } catch (problem) {
      tellTrouble(problem.message);
    }
  }

  /** Before or after the job under the pointer, if that stands in the same line. */
  #placeAt({ target, clientY }) {
    const row = target.closest?.("[data-job]");
    const other = this.jobOf(row?.dataset.job);
    if (!this.#dragged || !other || other.id === this.#dragged.id) return null;
    if (other.status !== "queued" || other.queue !== this.#dragged.queue) return null;
    const { top, height } = row.getBoundingClientRect();
    return { row, other, where: clientY < top + height / 2 ? "before" : "after" };
  }

  #mark(place) {
    if (this.#over && this.#over !== place?.row) setAttribute(this.#over, "data-drop", null);
    this.#over = place?.row ?? null;
    if (place) setAttribute(place.row, "data-drop", place.where);
  }

  #end() {
    this.#mark(null);
    this.#dragged = null;
  }
}
