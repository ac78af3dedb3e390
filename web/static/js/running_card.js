// A job that runs: its preview, how far it is, who makes it, and a way to stop it.

import * as api from "./api.js";
import { actionButton } from "./action.js";
import { make, setAttribute, setHidden, setText } from "./dom.js";
import { secondsBetween, sentence, settings, ticking, title } from "./format.js";

export class RunningCard {
  #job = null;

  constructor(job, previews) {
    this.previews = previews;
    this.picture = make("img", { alt: "", hidden: true });
    this.dark = make("span", { class: "undeveloped", "aria-hidden": "true" });
    this.link = make("a", { href: `#/jobs/${job.id}`, class: "title" });
    this.about = make("p", { class: "about" });
    this.bar = make("progress", { "aria-label": "Steps done" });
    this.phase = make("span", { class: "phase" });
    this.elapsed = make("span", { class: "elapsed" });
    const stop = async () => this.#job.cancel_requested || api.cancel(job.id);
    this.cancel = actionButton("Cancel", stop, { class: "quiet" });
    this.node = make(
      "li",
      { class: "card", "data-job": job.id },
      make("div", { class: "tray" }, this.dark, this.picture),
      make(
        "div",
        { class: "facts" },
        this.link,
        this.about,
        make("p", { class: "about settings" }, settings(job.params)),
        this.bar,
        make("p", { class: "where" }, this.phase, this.elapsed),
        this.cancel,
      ),
    );
  }

  update(job) {
    this.#preview(job);
    if (job === this.#job) return;
    this.#job = job;
    const { progress, cancel_requested } = job;
    setText(this.link, title(job));
    setText(this.about, [job.model, job.attempts.at(-1).worker].join(" on "));
    // Without a value a bar says that something is going on, which is what is known before the first step.
    setAttribute(this.bar, "value", progress?.steps ? progress.step : null);
    setAttribute(this.bar, "max", progress?.steps || 1);
    setText(this.phase, whereabouts(job));
    setText(this.cancel, cancel_requested ? "Stopping…" : "Cancel");
    setAttribute(this.cancel, "aria-disabled", cancel_requested ? "true" : null);
    setAttribute(this.cancel, "aria-label", cancel_requested ? null : `Cancel: ${title(job)}`);
    this.tick();
  }

  /** Once a second: how long the attempt has taken. */
  tick() {
    const now = new Date(Date.now() - api.clockAhead_ms).toISOString();
    setText(this.elapsed, ticking(secondsBetween(this.#job.started_at, now)));
  }

  #preview(job) {
    const url = this.previews.url(job.id);
    if (url === null || this.picture.getAttribute("src") === url) return;
    this.picture.src = url;
    setAttribute(this.picture, "alt", `Preview: ${title(job)}`);
    setHidden(this.picture, false);
  }
}

/** `Denoising, step 12 of 20`. */
export function whereabouts({ phase, progress, cancel_requested }) {
  if (cancel_requested) return "Stopping";
  const name = sentence(phase ?? progress?.phase ?? "starting");
  const hasSteps = progress?.steps > 0 && progress.phase === (phase ?? progress.phase);
  return hasSteps ? `${name}, step ${progress.step} of ${progress.steps}` : name;
}
