// What the page knows: jobs, queues and workers as of one position of the log.
// Messages of the push protocol go in, each event takes effect exactly once; no DOM, no socket, no clock here.

import { whyNobody } from "./eligible.js";
import { foldJob, foldQueue, foldWorker, isFinished, isWaiting } from "./fold.js";
import { WaitingLine } from "./waiting_line.js";

/** Finished jobs kept; older ones are fetched when somebody opens them. */
export const FINISHED_KEPT = 500;

const FINISHED = ["completed", "failed", "cancelled", "expired"];

export class Store {
  epoch = null;
  position = 0;
  hasSnapshot = false;
  jobs = new Map();
  queues = new Map();
  workers = new Map();
  lines = new Map(); // queue name -> WaitingLine
  aside = new Map(); // jobs that wait but are not in line: scheduled or held
  running = new Map();
  models = [];
  missing = new Set(); // ids of jobs with events here whose beginning is not: to be fetched
  #finished = new Map(); // in the order they ended, oldest first
  #unseen = new Map(); // status -> finished jobs that the service has and the page has not
  #arriving = null; // pages of a snapshot that is not complete
  #derived = new Map(); // ranks and reasons that hold until the next change
  #listeners = [];

  /** `listener(what, detail)`: "change" after anything, "event" with each event that took effect, "drop". */
  listen(listener) {
    this.#listeners.push(listener);
  }

  /** Fold one text frame of the socket: an object or an array of them. */
  take(frame) {
    for (const message of Array.isArray(frame) ? frame : [frame]) this.#one(message);
    this.#tell("change");
  }

  /** Newest end first. */
  finished() {
    return [...this.#finished.values()].reverse();
  }

  /** How many jobs of a finished status the service has besides those here. */
  unseen(status) {
    return this.#unseen.get(status) ?? 0;
  }

  /** Every waiting job: queues by name, each in the order its jobs will run; then the scheduled and the held. */
  waiting() {
    return this.#derive("waiting", () => {
      const inLine = [...this.lines.keys()].sort().flatMap((name) => this.lines.get(name).jobs);
      return [...inLine, ...[...this.aside.values()].sort(soonestFirst)];
    });
  }

  /** 1 for the next one out of its line among those that can run; null unless it is one of them. */
  rank(job) {
    return job.status === "queued" ? (this.#ranks(job.queue).get(job.id) ?? null) : null;
  }

  /** Why no worker can run a waiting job, null when one can. */
  blocked(job) {
    return isWaiting(job) ? this.#derive(`why ${job.task}/${job.model}`, () => this.#whyNobody(job)) : null;
  }

  /** When a job is thought to start and end. What was told last holds no longer out of line, or in a paused queue. */
  eta(job) {
    if (job.status === "running") return job.eta;
    const isMoving = job.status === "queued" && !this.queues.get(job.queue)?.is_paused;
    return isMoving && this.blocked(job) === null ? job.eta : null;
  }

  /** The jobs {before, after} one that is in line, undefined where there is none. */
  neighbours(job) {
    return this.lines.get(job.queue).neighbours(job, this.#isFair(job.queue));
  }

  /** How many jobs of a batch have not ended. */
  openOfBatch(id) {
    const open = [...this.running.values(), ...this.waiting()];
    return open.filter(({ batch }) => batch === id).length;
  }

  /** Take in a job fetched over HTTP, unless what is here is as new. */
  put(resource) {
    const known = this.jobs.get(resource.id);
    if (known && known.position > resource.position) return;
    this.missing.delete(resource.id);
    if (known?.position === resource.position) this.#estimate(resource.id, resource.eta);
    else this.#set(resource);
    this.#tell("change");
  }

  /** Replace what is known of the workers: that a worker's connection broke is no event. */
  putWorkers(workers) {
    this.workers = new Map(workers.map((worker) => [worker.name, worker]));
    this.#derived.clear();
    this.#tell("change");
  }

  /** The catalogue: it says what models need of a device. */
  putModels(models) {
    this.models = models;
    this.#derived.clear();
    this.#tell("change");
  }

  /** Forget everything: the log is another one, or too much was missed. */
  drop() {
    this.position = 0;
    this.hasSnapshot = false;
    this.#arriving = null;
    this.#clear();
    this.#tell("drop");
  }

  #one(message) {
    switch (message.op) {
      case "hello":
        if (this.epoch !== null && this.epoch !== message.epoch) this.drop();
        this.epoch = message.epoch;
        this.#arriving = null;
        break;
      case "snapshot":
        this.#snapshot(message);
        break;
      case "event":
        if (message.position > this.position) this.#event(message);
        break;
      case "mark":
        this.position = Math.max(this.position, message.through);
        break;
      case "eph":
        if (message.kind === "progress") this.#progress(message);
        else if (message.kind === "eta") this.#estimate(message.job, message.data);
        break;
    }
  }

  #snapshot({ as_of, jobs, queues, workers, last }) {
    this.#arriving ??= { jobs: [], queues: [], workers: [] };
    this.#arriving.jobs.push(...jobs);
    this.#arriving.queues.push(...queues);
    this.#arriving.workers.push(...workers);
    if (!last) return;
    const whole = this.#arriving;
    this.#arriving = null;
    this.#clear();
    for (const queue of whole.queues) this.queues.set(queue.name, queue);
    for (const worker of whole.workers) this.workers.set(worker.name, worker);
    // What has ended is kept in the order of the ends.
    for (const job of whole.jobs.sort((a, b) => a.position - b.position)) this.#set(job);
    this.#countUnseen(whole);
    this.position = as_of;
    this.hasSnapshot = true;
  }

  #countUnseen({ queues, jobs }) {
    for (const status of FINISHED) {
      const all = queues.reduce((sum, { counts }) => sum + (counts[status] ?? 0), 0);
      this.#unseen.set(status, all - jobs.filter((job) => job.status === status).length);
    }
  }

  #event(event) {
    this.position = event.position;
    const [category, subject] = split(event.stream);
    if (category === "job") this.#jobEvent(subject, event);
    else if (category === "queue") this.#queueEvent(event);
    else if (category === "worker") this.#workerEvent(event);
    this.#tell("event", event);
  }

  #jobEvent(id, event) {
    const known = this.jobs.get(id);
    if (!known && event.type !== "job-submitted") {
      this.missing.add(id);
      return;
    }
    if (known && known.position >= event.position) return; // fetched after it had happened
    this.#set(foldJob(known, event));
  }

  #queueEvent(event) {
    if (event.type === "queue-pruned") this.#prune(event.data);
    else this.queues.set(event.data.name, foldQueue(this.queues.get(event.data.name), event));
    this.#derived.clear();
  }

  /** Forget the jobs of a queue that had ended by then: nothing happens to a job after its end but a retry. */
  #prune({ name, through }) {
    for (const [id, { queue, position }] of this.#finished) {
      if (queue !== name || position > through) continue;
      this.#finished.delete(id);
      this.jobs.delete(id);
    }
  }

  #workerEvent(event) {
    const known = this.workers.get(event.data.worker);
    this.workers.set(event.data.worker, foldWorker(known, event));
    this.#derived.clear();
  }

  #progress({ job: id, data }) {
    const job = this.jobs.get(id);
    if (job?.status === "running") this.#set({ ...job, progress: data });
  }

  /** Take in when a job is thought to start and end. */
  #estimate(id, eta) {
    const job = this.jobs.get(id);
    if (job && !isFinished(job)) this.#set({ ...job, eta });
  }

  #ranks(queue) {
    const isBlocked = (job) => this.blocked(job) !== null;
    return this.#derive(`ranks ${queue}`, () => this.#line(queue).ranks(this.#isFair(queue), isBlocked));
  }

  #isFair(queue) {
    return this.queues.get(queue)?.rules.policy === "fair";
  }

  #whyNobody(job) {
    const needs = new Map(this.models.map(({ id, memory_bytes }) => [id, memory_bytes]));
    return whyNobody(job, [...this.workers.values()], needs);
  }

  #derive(name, make) {
    if (!this.#derived.has(name)) this.#derived.set(name, make());
    return this.#derived.get(name);
  }

  #set(job) {
    const old = this.jobs.get(job.id);
    if (old?.status !== "running" || job.status !== "running") this.#derived.clear(); // progress changes nothing there
    if (old?.status === "queued" && job.status === "queued" && old.queue === job.queue)
      this.#line(job.queue).replace(old, job);
    else {
      if (old?.status === "queued") this.#line(old.queue).remove(old);
      if (job.status === "queued") this.#line(job.queue).add(job);
    }
    if (job.status === "scheduled" || job.status === "held") this.aside.set(job.id, job);
    else this.aside.delete(job.id);
    if (job.status === "running") this.running.set(job.id, job);
    else this.running.delete(job.id);
    if (isFinished(job)) this.#finished.set(job.id, job);
    else this.#finished.delete(job.id);
    this.jobs.set(job.id, job);
    if (this.#finished.size > FINISHED_KEPT) {
      const [[oldest, { status }]] = this.#finished;
      this.#finished.delete(oldest);
      this.jobs.delete(oldest);
      this.#unseen.set(status, this.unseen(status) + 1);
    }
  }

  #line(queue) {
    let line = this.lines.get(queue);
    if (!line) this.lines.set(queue, (line = new WaitingLine()));
    return line;
  }

  #clear() {
    const { jobs, queues, workers, lines, aside, running, missing } = this;
    const others = [this.#finished, this.#unseen, this.#derived];
    for (const kept of [jobs, queues, workers, lines, aside, running, missing, ...others]) kept.clear();
  }

  #tell(what, detail) {
    for (const listener of this.#listeners) listener(what, detail);
  }
}

/** By the time that they wait for; those that are held come last. */
function soonestFirst(a, b) {
  const due = ({ status, not_before, created_at }) => (status === "held" ? `~${created_at}` : not_before);
  return due(a) < due(b) ? -1 : 1;
}

function split(stream) {
  const slash = stream.indexOf("/");
  return [stream.slice(0, slash), stream.slice(slash + 1)];
}
