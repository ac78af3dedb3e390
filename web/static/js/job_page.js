// One job at #/jobs/<id>: its picture, how it stands, its timeline, attempts, parameters and files. Live while it runs.

import * as api from "./api.js";
import { actionButton } from "./action.js";
import { Attempts } from "./attempts.js";
import { byId, KeyedChildren, make, setAttribute, setHidden, setText } from "./dom.js";
import { announce } from "./frame.js";
import { isFinished, isWaiting } from "./fold.js";
import { clock, duration, secondsBetween, sentence, title } from "./format.js";
import { actionsOf, movesOf } from "./job_actions.js";
import { failure, files, parameters } from "./job_parts.js";
import { whereabouts } from "./running_card.js";
import { elementOf, shownOf } from "./result.js";
import { Timeline } from "./timeline.js";
import { blockedWords, chip, chipsOf, etaWords, readyWords } from "./waits.js";

export class JobPage {
  isOpen = false;
  #id = null;
  #fetched = null; // for a job that is in no snapshot
  #drawn = null;
  #asked = null; // what the parameters that are drawn say
  #lacks = false; // its history could not be fetched
  #timeline = null;
  #parts = null;
  #others = null; // the buttons of what can be done besides cancel and retry

  /** `onAgain(job)` opens the submit form with a job's parameters. */
  constructor({ store, previews, onAgain }) {
    Object.assign(this, { store, previews, onAgain });
  }

  async open(id) {
    if (this.isOpen && this.#id === id) return;
    this.isOpen = true;
    this.#id = id;
    this.#fetched = this.#drawn = this.#asked = null;
    this.#lacks = false;
    this.#timeline = new Timeline();
    this.#build();
    try {
      const [job, events] = await Promise.all([api.job(id), api.jobEvents(id)]);
      if (id !== this.#id) return;
      this.#fetched = job;
      this.store.put(job); // its estimate is newer than one that was pushed long ago
      this.#timeline.add(events);
      this.draw();
    } catch (problem) {
      if (id !== this.#id) return;
      this.#lacks = problem.status !== 404;
      this.#complain(problem);
    }
  }

  /** Gives the id of the job that was open, if any. */
  close() {
    const id = this.#id;
    this.isOpen = false;
    this.#id = null;
    byId("job").replaceChildren();
    return id;
  }

  /** Begin anew: what was known of the log holds no longer. */
  refresh() {
    if (this.isOpen) this.open(this.close());
  }

  /** The service answers again: get what it could not give. */
  complete() {
    if (this.#lacks) this.refresh();
  }

  event(event) {
    if (this.isOpen && event.stream === `job/${this.#id}`) this.#timeline.add([event]);
  }

  draw() {
    const job = this.store.jobs.get(this.#id) ?? this.#fetched;
    if (!this.isOpen || !job) return;
    const parts = this.#parts;
    this.#drawPicture(job);
    if (job === this.#drawn && !isWaiting(job)) return; // the place of one that waits changes with others
    const isFirst = this.#drawn === null;
    // Each step would be too much to hear; a change of status is not.
    if (!isFirst && job.status !== this.#drawn.status) announce(`${title(job)}: ${job.status}`);
    this.#drawn = job;
    setText(parts.heading, title(job));
    setText(parts.status, sentence(job.status));
    setAttribute(parts.status, "data-status", job.status);
    setText(parts.summary, summaryOf(job, this.store));
    parts.chips.replaceChildren(...chipsOf(job, null).map(chip));
    setHidden(parts.bar, job.status !== "running");
    setAttribute(parts.bar, "value", job.progress?.steps ? job.progress.step : null);
    setAttribute(parts.bar, "max", job.progress?.steps || 1);
    this.#drawActions(job);
    parts.failure.replaceChildren(...failure(job));
    parts.attempts.draw(job);
    parts.files.replaceChildren(...files(job));
    // Drawing parameters only when they change keeps a selection in them alive.
    const asked = JSON.stringify([job.params, job.priority, job.tags, job.model, job.queue, job.not_before]);
    if (asked !== this.#asked) parts.parameters.replaceChildren(...parameters(job));
    this.#asked = asked;
    if (isFirst) parts.heading.focus({ preventScroll: true });
  }

  #build() {
    const quiet = { class: "quiet" };
    const stop = async () => this.#drawn.cancel_requested || api.cancel(this.#id);
    const again = { type: "button", class: "quiet", onclick: () => this.onAgain(this.#drawn) };
    const parts = {
      heading: make("h1", { id: "job-heading", tabindex: "-1" }, "…"),
      status: make("span", { class: "status" }),
      summary: make("span", {}),
      chips: make("span", { class: "chips-of" }),
      bar: make("progress", { "aria-label": "Steps done", hidden: true }),
      picture: make("div", { class: "picture" }),
      failure: make("div", {}),
      attempts: new Attempts(),
      files: make("div", {}),
      parameters: make("div", {}),
      cancel: actionButton("Cancel", stop, quiet),
      retry: actionButton("Retry", () => api.retry(this.#id), quiet),
      others: make("span", { class: "actions" }),
      again: make("button", again, "Submit again with changes"),
    };
    this.#parts = parts;
    this.#others = new KeyedChildren(parts.others, ({ key }) => key, makeAction, parts.heading);
    byId("job").replaceChildren(
      make("p", { class: "back" }, make("a", { href: "#/" }, "← All jobs")),
      make(
        "header",
        { class: "job-head" },
        parts.heading,
        make("p", { class: "job-state" }, parts.status, parts.chips, parts.summary),
        parts.bar,
        make("div", { class: "actions" }, parts.cancel, parts.retry, parts.others, parts.again),
      ),
      make(
        "div",
        { class: "job-body" },
        make("div", { class: "job-side" }, parts.picture, parts.parameters, parts.files),
        make("div", { class: "job-course" }, parts.failure, parts.attempts.node, this.#timeline.node),
      ),
    );
  }

  #drawActions(job) {
    const { cancel, retry, again } = this.#parts;
    setHidden(cancel, isFinished(job));
    setText(cancel, job.cancel_requested ? "Stopping…" : "Cancel");
    setAttribute(cancel, "aria-disabled", job.cancel_requested ? "true" : null);
    setHidden(retry, !isFinished(job) || job.status === "completed");
    setHidden(again, false);
    const wanted = [...movesOf(job, this.store), ...actionsOf(job, this.store)];
    this.#others.sync(wanted.map((action) => ({ ...action, key: action.name.replace(/ \(.*/, "") })));
  }

  #drawPicture(job) {
    const { picture } = this.#parts;
    const artifact = shownOf(job);
    const url = artifact?.url ?? this.previews.url(job.id);
    setHidden(picture, !url && job.status !== "running");
    if (!url) {
      if (picture.firstElementChild?.className !== "undeveloped")
        picture.replaceChildren(make("span", { class: "undeveloped", "aria-hidden": "true" }));
    } else if (artifact && picture.dataset.url !== url) {
      const isPicture = artifact.media_type.startsWith("image/");
      const shown = elementOf(artifact, job, isPicture ? { loading: "eager" } : { controls: true });
      picture.replaceChildren(isPicture ? make("a", { href: url, target: "_blank", rel: "noopener" }, shown) : shown);
    } else if (picture.dataset.url !== url) {
      const shown = picture.querySelector("img.preview");
      if (shown) shown.src = url;
      else picture.replaceChildren(make("img", { class: "preview", src: url, alt: `Preview: ${title(job)}` }));
    }
    picture.dataset.url = url ?? "";
  }

  #complain({ status, message }) {
    setText(this.#parts.heading, status === 404 ? "There is no such job" : "This job cannot be shown");
    setText(this.#parts.summary, message);
    for (const name of ["cancel", "retry", "others", "again", "picture"]) setHidden(this.#parts[name], true);
    this.#parts.heading.focus({ preventScroll: true });
  }
}

/** A button whose act follows the job. */
function makeAction({ name }) {
  let action = null;
  const button = actionButton(name, () => action.act(), { class: "quiet" });
  return {
    node: button,
    update(newest) {
      action = newest;
      setText(button, action.name);
    },
  };
}

function summaryOf(job, store) {
  const why = store.blocked(job);
  if (job.status === "queued") {
    const rank = store.rank(job);
    const where = `in queue ${job.queue}, since ${clock(job.created_at)}`;
    return [rank ? `number ${rank} ${where}` : where, why ? blockedWords(why) : etaWords(store.eta(job))].filter(Boolean).join("; ");
  }
  if (job.status === "running") {
    const ready = readyWords(job.eta);
    return `${whereabouts(job)}, on ${job.attempts.at(-1).worker}${ready ? `; ready ${ready}` : ""}`;
  }
  if (isWaiting(job)) return [`in queue ${job.queue}`, why ? blockedWords(why) : ""].filter(Boolean).join("; ");
  const took = job.started_at ? ` after ${duration(secondsBetween(job.started_at, job.finished_at))}` : "";
  return `${clock(job.finished_at)}${took}`;
}
