// One job, queue or worker after one more of its events: the same folds as projections/jobs.py, queues.py and
// workers.py, on the objects of the API. Nothing is changed in place, so a view may compare by identity.
// An event's data lacks what has its default value.

import { instant } from "./format.js";

const ORDER_DIGITS = 12; // as WIDTH in projections/rank.py

/** The job after `event`; `job` is undefined for job-submitted. Unknown event types change only the position. */
export function foldJob(job, event) {
  if (event.type === "job-submitted") return submitted(event);
  const change = CHANGES[event.type];
  return { ...job, ...(change ? change(job, event) : {}), position: event.position };
}

/** Scheduled, held or in line. */
export const isWaiting = ({ status }) => status === "scheduled" || status === "held" || status === "queued";

export const isFinished = (job) => !isWaiting(job) && job.status !== "running";

/** The queue after `event`; `queue` is undefined for the first one. */
export function foldQueue(queue, { type, data, at }) {
  const change = {
    "queue-configured": { rules: data.rules },
    "queue-paused": { is_paused: true, pause_reason: data.reason ?? "operator" },
    "queue-drained": { is_drained: true },
    "queue-resumed": { is_paused: false, pause_reason: null, is_drained: false },
  }[type];
  const fresh = { is_paused: false, pause_reason: null, is_drained: false, counts: {}, created_at: at };
  const rules = { policy: "fifo", capacity: null, keep_s: null, keep_jobs: null };
  return { name: data.name, rules, ...fresh, ...queue, ...change };
}

/** The worker after `event`; `worker` is undefined for one never seen. */
export function foldWorker(worker, { type, data, at }) {
  switch (type) {
    case "worker-registered": {
      const { worker: name, boot, models, device, slots, versions } = data;
      const fresh = { running: [], is_connected: true, registered_at: at, lost: null, lost_at: null };
      return { name, boot, models, device, slots, versions, ...fresh, quarantine: worker?.quarantine ?? null };
    }
    case "worker-lost": // an older process of that name may be meant
      if (worker.boot !== data.boot) return worker;
      return { ...worker, is_connected: false, lost: data.reason, lost_at: at };
    case "worker-quarantined":
      return { ...worker, quarantine: data.why };
    case "worker-released":
      return { ...worker, quarantine: null };
    default:
      return worker;
  }
}

const CHANGES = {
  "job-became-due": () => ({ status: "queued", not_before: null }),
  "job-held": () => ({ status: "held" }),
  "job-released": (job, { at }) => ({ status: inTime(job.not_before, at) }),
  "job-moved": (job, { data }) => ({
    priority: data.priority,
    background: data.is_background,
    order: orderOf(data.rank, job.order?.split(".")[1]),
  }),
  "job-edited": (job, { data, private: hidden }) => ({
    queue: data.queue,
    model: data.model,
    params: { ...data.params, ...(hidden ?? {}) },
    priority: data.priority,
    tags: data.tags,
    metadata: data.metadata,
    background: data.is_background,
    start_deadline: maybe(data.start_deadline_us),
    finish_deadline: maybe(data.finish_deadline_us),
  }),
  "job-leased": leased,
  "job-phase-entered": (job, { data, at }) => ({
    phase: data.phase,
    attempts: withLast(job, (attempt) => ({ phases: [...attempt.phases, { phase: data.phase, at }] })),
  }),
  "job-requeued": (job, { data, at }) => ({
    status: data.not_before_us ? "scheduled" : "queued",
    not_before: maybe(data.not_before_us),
    phase: null,
    progress: null,
    cancel_requested: false,
    attempts: ended(job, at, data.reason, data.detail ?? null),
  }),
  "job-cancel-requested": () => ({ cancel_requested: true }),
  "job-completed": (job, event) => ({
    ...finished(job, event, "completed"),
    artifacts: event.data.artifacts.map(artifact),
    facts: event.data.facts,
  }),
  "job-failed": (job, event) => ({
    ...finished(job, event, "failed", event.data.error.message),
    error: event.data.error,
  }),
  "job-cancelled": (job, event) => finished(job, event, "cancelled"),
  "job-expired": (job, event) => ({
    ...finished(job, event, "expired", `${event.data.deadline} deadline`),
    expired: event.data.deadline,
  }),
  "job-retried": (job, { data }) => ({
    status: "queued",
    order: orderOf(data.rank || firstRank(data.submitted), digits(data.submitted)),
    error: null,
    expired: null,
    cancel_requested: false,
    not_before: null,
    start_deadline: null,
    finish_deadline: null,
    started_at: null,
    finished_at: null,
  }),
};

function submitted({ stream, data, private: hidden, at, position }) {
  const not_before = maybe(data.not_before_us);
  return {
    id: stream.slice("job/".length),
    task: data.task,
    model: data.model,
    queue: data.queue,
    status: data.is_held ? "held" : inTime(not_before, at),
    phase: null,
    progress: null,
    rank: null,
    order: orderOf(firstRank(position), digits(position)),
    eta: null,
    blocked: null,
    priority: data.priority,
    background: data.is_background ?? false,
    submitter: data.submitter,
    tags: data.tags ?? [],
    metadata: data.metadata ?? {},
    batch: data.batch ?? null,
    parent: data.parent ?? null,
    params: { ...data.params, ...(hidden ?? {}) },
    not_before,
    start_deadline: maybe(data.start_deadline_us),
    finish_deadline: maybe(data.finish_deadline_us),
    attempts: [],
    created_at: at,
    started_at: null,
    finished_at: null,
    cancel_requested: false,
    expired: null,
    error: null,
    artifacts: [],
    facts: {},
    position,
  };
}

function leased(job, { data, at }) {
  const running = { status: "running", progress: null, not_before: null };
  if (data.adopted) {
    const last = job.attempts.at(-1);
    const attempts = withLast(job, () => ({ ended_at: null, outcome: null, detail: null }));
    return { ...running, attempts, phase: last.phases.at(-1)?.phase ?? null };
  }
  const attempt = {
    attempt: data.attempt,
    worker: data.worker,
    started_at: at,
    ended_at: null,
    outcome: null,
    detail: null,
    phases: [],
  };
  return { ...running, phase: null, started_at: at, attempts: [...job.attempts, attempt] };
}

function finished(job, { at }, status, detail = null) {
  const attempts = job.status === "running" ? ended(job, at, status, detail) : job.attempts;
  const over = { phase: null, progress: null, eta: null, order: null, cancel_requested: false };
  return { ...over, status, finished_at: at, attempts };
}

function ended(job, at, outcome, detail) {
  return withLast(job, () => ({ ended_at: at, outcome, detail }));
}

function withLast(job, change) {
  const last = job.attempts.at(-1);
  return [...job.attempts.slice(0, -1), { ...last, ...change(last) }];
}

const ABOUT = { width: null, height: null, frames: null, fps: null, seconds: null, sample_rate_hz: null };

const artifact = (stored) => ({ ...ABOUT, ...stored, url: `/v1/artifacts/${stored.digest}` });

/** The status of a job that waits and is not held. Instants of one form compare as text. */
const inTime = (not_before, at) => (not_before !== null && not_before > at ? "scheduled" : "queued");

const maybe = (at_us) => (at_us == null ? null : instant(at_us));

const digits = (position) => position.toString(16).padStart(ORDER_DIGITS, "0");

const firstRank = (position) => `${digits(position)}8`;

/** As `order` of a job in the API: the rank, then the position of the submission where ranks are equal. */
const orderOf = (rank, submitted) => `${rank}.${submitted}`;
