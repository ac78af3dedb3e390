// What the page knows: jobs, queues and workers as of one position of the log.
// Messages of the push protocol go in, each event takes effect exactly once; no DOM, no socket, no clock here.

import { foldJob, isFinished } from "./fold.js";
import { WaitingLine } from "./waiting_line.js";

/** Finished jobs kept; older ones are fetched when somebody opens them. */
export const FINISHED_KEPT = 500;

const FINISHED = ["completed", "failed", "cancelled"];

export class Store {
  epoch = null;
  position = 0;
  hasSnapshot = false;
  jobs = new Map();
  queues = new Map();
  workers = new Map();
  lines = new Map(); // queue name -> WaitingLine
  running = new Map();
  missing = new Set(); // ids of jobs with events here whose beginning is not: to be fetched
  #finished = new Map(); // in the order they ended, oldest first
  #unseen = new Map(); // status -> finished jobs that the service has and the page has not
  #arriving = null; // pages of a snapshot that is not complete
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

  /** Every waiting job: queues by name, each in the order its jobs will run. */
  waiting() {
    const names = [...this.lines.keys()].sort();
    return names.length === 1 ? this.lines.get(names[0]).jobs : names.flatMap((name) => this.lines.get(name).jobs);
  }

  /** 1 for the next one out of its queue, null unless queued. */
  rank(job) {
    return job.status === "queued" ? this.lines.get(job.queue).rank(job) : null;
  }

  /** Take in a job fetched over HTTP, unless what is here is as new. */
  put(resource) {
    const known = this.jobs.get(resource.id);
    if (known && known.position >= resource.position) return;
    this.missing.delete(resource.id);
    this.#set({ ...resource, order: known?.order ?? 0 });
    this.#tell("change");
  }

  /** Replace what is known of the workers: that a worker's connection broke is no event. */
  putWorkers(workers) {
    this.workers = new Map(workers.map((worker) => [worker.name, worker]));
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
        this.#progress(message);
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
    // Newest first: 0, -1, -2, … keeps their order among each other and before every later submission.
    const ordered = whole.jobs.map((job, index) => ({ ...job, order: -index }));
    const ended = (job) => job.finished_at ?? "";
    for (const job of ordered.sort((a, b) => (ended(a) < ended(b) ? -1 : ended(a) > ended(b) ? 1 : 0))) this.#set(job);
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
    this.#set({ ...foldJob(known, event), order: known?.order ?? event.position });
  }

  #queueEvent({ type, data, at }) {
    const known = this.queues.get(data.name) ?? { name: data.name, is_paused: false, counts: {}, created_at: at };
    const is_paused = type === "queue-paused" || (type !== "queue-resumed" && known.is_paused);
    this.queues.set(data.name, { ...known, is_paused });
  }

  #workerEvent({ type, data, at }) {
    if (type === "worker-registered") {
      const { worker: name, boot, models, device, slots, versions } = data;
      const fresh = { running: [], is_connected: true, registered_at: at, lost: null, lost_at: null };
      this.workers.set(name, { name, boot, models, device, slots, versions, ...fresh });
    } else if (type === "worker-lost") {
      const known = this.workers.get(data.worker);
      if (known?.boot !== data.boot) return; // an older process of that name
      this.workers.set(data.worker, { ...known, is_connected: false, lost: data.reason, lost_at: at });
    }
  }

  #progress({ kind, job: id, data }) {
    const job = this.jobs.get(id);
    if (kind === "progress" && job?.status === "running") this.#set({ ...job, progress: data });
  }

  #set(job) {
    const old = this.jobs.get(job.id);
    const line = this.#line(job.queue);
    if (old?.status === "queued" && job.status === "queued") line.replace(old, job);
    else if (old?.status === "queued") line.remove(old);
    else if (job.status === "queued") line.add(job);
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
    const { jobs, queues, workers, lines, running, missing } = this;
    for (const kept of [jobs, queues, workers, lines, running, missing, this.#finished, this.#unseen]) kept.clear();
  }

  #tell(what, detail) {
    for (const listener of this.#listeners) listener(what, detail);
  }
}

function split(stream) {
  const slash = stream.indexOf("/");
  return [stream.slice(0, slash), stream.slice(slash + 1)];
}
