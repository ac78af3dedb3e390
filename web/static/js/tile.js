// One finished job in the gallery: what it made, or why there is nothing.

import * as api from "./api.js";
import { actionButton } from "./action.js";
import { make, setAttribute, setHidden, setText } from "./dom.js";
import { clock, duration, secondsBetween, sentence, title } from "./format.js";
import { elementOf, shownOf } from "./result.js";
import { expiredWords } from "./waits.js";

export class Tile {
  #job = null;

  constructor(job) {
    this.body = make("span", { class: "print" });
    this.caption = make("span", { class: "caption" });
    this.when = make("span", { class: "when" });
    this.link = make("a", { href: `#/jobs/${job.id}` }, this.body, this.caption, this.when);
    this.retry = actionButton("Retry", () => api.retry(job.id), { class: "quiet", hidden: true });
    this.node = make("li", { class: "tile", "data-job": job.id }, this.link, this.retry);
  }

  update(job) {
    if (job === this.#job) return;
    this.#job = job;
    setAttribute(this.node, "data-status", job.status);
    setText(this.caption, title(job));
    setText(this.when, whenOf(job));
    setHidden(this.retry, job.status === "completed");
    setAttribute(this.retry, "aria-label", `Retry: ${title(job)}`);
    const file = shownOf(job);
    const isSeen = file && !file.media_type.startsWith("audio/");
    this.body.replaceChildren(isSeen ? elementOf(file, job) : make("span", { class: "reason" }, reasonOf(job)));
  }
}

function reasonOf({ status, error, expired, artifacts: [file] }) {
  if (file) return file.seconds ? `Sound, ${duration(file.seconds)}` : sentence(file.media_type);
  if (status === "expired") return `Expired: ${expiredWords(expired)}`;
  if (status === "failed") return error?.message ? sentence(error.message) : "Failed";
  return status === "cancelled" ? "Cancelled" : "Completed without a file";
}

function whenOf({ started_at, finished_at }) {
  const took = started_at ? duration(secondsBetween(started_at, finished_at)) : null;
  return [clock(finished_at), took].filter(Boolean).join(" · ");
}
