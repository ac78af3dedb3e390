// What was made: newest end first, live at the top, older ones by the HTTP cursor when somebody wants more.

import * as api from "./api.js";
import { actionButton } from "./action.js";
import { openBulk } from "./bulk.js";
import { byId, KeyedChildren, make, setAttribute, setHidden, setText } from "./dom.js";
import { Tile } from "./tile.js";

const PAGE = 24;
const CHOICES = {
  Completed: ["completed"],
  Failed: ["failed"],
  Cancelled: ["cancelled"],
  Expired: ["expired"],
  All: ["completed", "failed", "cancelled", "expired"],
};
const EMPTY = {
  Completed: "Nothing is completed yet.",
  Failed: "Nothing has failed.",
  Cancelled: "Nothing was cancelled.",
  Expired: "Nothing has missed its deadline.",
  All: "Nothing has ended yet.",
};

export class Gallery {
  #tiles = new KeyedChildren(byId("gallery"), ({ id }) => id, (job) => new Tile(job), byId("results-heading"));
  #choice = "Completed";
  #wanted = PAGE; // how many tiles to show
  #older = new Map(); // jobs that came over HTTP, in the order they came
  #cursor = null; // null before the first page
  #isEnd = false; // the last page is here

  constructor(store) {
    this.store = store;
    byId("chips").append(...Object.keys(CHOICES).map((name) => this.#chip(name)));
    byId("several-ended").addEventListener("click", () => openBulk(store, "retry"));
    byId("more").append(actionButton("Show more", () => this.#more(), { class: "quiet" }));
  }

  draw() {
    if (!this.store.hasSnapshot) return;
    const found = this.#found();
    this.#tiles.sync(found.slice(0, this.#wanted));
    setHidden(byId("several-ended"), this.#choice === "Completed" || found.length === 0);
    setText(byId("results-empty"), EMPTY[this.#choice]);
    setHidden(byId("results-empty"), found.length > 0);
    setHidden(byId("more"), found.length <= this.#wanted && (this.#isEnd || !this.#mayBeOlder()));
  }

  /** Forget what was fetched: the log is another one, or too much was missed. */
  drop() {
    this.#older.clear();
    this.#cursor = null;
    this.#isEnd = false;
    this.#wanted = PAGE;
  }

  /** Forget jobs of a queue that the service shows no more. */
  prune({ name, through }) {
    for (const [id, { queue, position }] of this.#older)
      if (queue === name && position <= through) this.#older.delete(id);
  }

  /** Put the focus back on the job one comes from, if its tile is still here. */
  focus(id) {
    this.#tiles.parts.get(id)?.link.focus({ preventScroll: true });
  }

  #found() {
    const statuses = CHOICES[this.#choice];
    const here = this.store.finished().filter((job) => statuses.includes(job.status));
    const older = [...this.#older.values()].filter((job) => !this.store.jobs.has(job.id));
    return [...here, ...older];
  }

  /** Whether the service may have finished jobs that the page has not. */
  #mayBeOlder() {
    return CHOICES[this.#choice].some((status) => this.store.unseen(status) > 0);
  }

  async #more() {
    this.#wanted += PAGE;
    try {
      while (this.#found().length < this.#wanted && !this.#isEnd && this.#mayBeOlder()) await this.#fetch();
    } catch (problem) {
      this.#wanted -= PAGE;
      throw problem;
    }
    this.draw();
  }

  async #fetch() {
    const choice = this.#choice;
    // The first page begins at the newest submission: wide enough to reach behind what is here already.
    const limit = this.#cursor === null ? Math.min(1000, this.#found().length + PAGE) : PAGE;
    const page = await api.jobs(CHOICES[choice], limit, this.#cursor);
    if (choice !== this.#choice) return;
    for (const job of page.jobs) this.#older.set(job.id, job);
    this.#cursor = page.next_cursor;
    this.#isEnd = page.next_cursor === null;
  }

  #chip(name) {
    const press = () => {
      this.#choice = name;
      this.drop();
      for (const chip of byId("chips").children) setAttribute(chip, "aria-pressed", chip.textContent === name);
      this.draw();
    };
    const isPressed = String(name === this.#choice);
    return make("button", { type: "button", class: "chip", "aria-pressed": isPressed, onclick: press }, name);
  }
}
