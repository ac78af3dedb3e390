// The menu of a waiting row: one popover for all rows, made anew for the job it is opened on.

import { actionButton } from "./action.js";
import { make } from "./dom.js";
import { title } from "./format.js";
import { actionsOf, movesOf } from "./job_actions.js";

export class JobMenu {
  #job = null;
  #node = make("div", { class: "menu", popover: "auto", role: "group" });

  constructor(store) {
    this.store = store;
    this.#node.addEventListener("toggle", ({ newState }) => newState === "closed" && (this.#job = null));
    document.body.append(this.#node);
  }

  open(job, button) {
    this.#job = job;
    this.#fill(job);
    this.#node.showPopover();
    const { right, bottom, top } = button.getBoundingClientRect();
    const { offsetWidth, offsetHeight } = this.#node;
    const isRoomBelow = bottom + offsetHeight < innerHeight;
    this.#node.style.left = `${Math.max(8, right - offsetWidth)}px`;
    this.#node.style.top = `${isRoomBelow ? bottom : Math.max(8, top - offsetHeight)}px`;
    this.#node.querySelector("button")?.focus();
  }

  /** What can be done changes with the job: follow it while it waits. */
  draw() {
    if (this.#job === null) return;
    const job = this.store.jobs.get(this.#job.id);
    if (job?.status !== this.#job.status) this.#node.hidePopover();
    else if (job !== this.#job) this.#refill(job);
  }

  #refill(job) {
    this.#job = job;
    const focused = document.activeElement?.textContent;
    this.#fill(job);
    const buttons = [...this.#node.querySelectorAll("button")];
    (buttons.find(({ textContent }) => textContent === focused) ?? buttons[0])?.focus();
  }

  /** A move leaves the menu open: one seldom moves by one place only. */
  #fill(job) {
    const close = (act) => () => {
      this.#node.hidePopover();
      return act();
    };
    const button = ({ name, act }) => actionButton(name, act, { class: "item" });
    this.#node.setAttribute("aria-label", `Actions: ${title(job)}`);
    this.#node.replaceChildren(
      ...movesOf(job, this.store).map(button),
      ...actionsOf(job, this.store).map(({ name, act }) => button({ name, act: close(act) })),
    );
  }
}
