// One job after one more of its events: the same fold as projections/jobs.py, on JobResource objects.
// Nothing is changed in place, so a view may compare a job, or a part of it, by identity.

/** The job after `event`; `job` is undefined for job-submitted. Unknown event types change only the position. */
export function foldJob(job, event) {
  if (event.type === "job-submitted") return submitted(event);
  const change = CHANGES[event.type];
  return { ...job, ...(change ? change(job, event) : {}), position: event.position };
}

export const isFinished = (job) => job.status !== "queued" && job.status !== "running";

const CHANGES = {
  "job-leased": leased,
  "job-phase-entered": (job, { data, at }) => ({
    phase: data.phase,
    attempts: withLast(job, (attempt) => ({ phases: [...attempt.phases, { phase: data.phase, at }] })),
  }),
  "job-requeued": (job, { data, at }) => ({
    status: "queued",
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
  "job-retried": () => ({
    status: "queued",
    error: null,
    cancel_requested: false,
    started_at: null,
    finished_at: null,
  }),
};

function submitted({ stream, data, private: hidden, at, position }) {
  return {
    id: stream.slice("job/".length),
    task: data.task,
    model: data.model,
    queue: data.queue,
    status: "queued",
    phase: null,
    progress: null,
    rank: null,
    priority: data.priority,
    submitter: data.submitter,
    tags: data.tags ?? [],
    params: { ...data.params, ...(hidden ?? {}) },
    attempts: [],
    created_at: at,
    started_at: null,
    finished_at: null,
    cancel_requested: false,
    error: null,
    artifacts: [],
    facts: {},
    position,
  };
}

function leased(job, { data, at }) {
  const running = { status: "running", progress: null, rank: null };
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
  return { status, phase: null, progress: null, cancel_requested: false, finished_at: at, attempts };
}

function ended(job, at, outcome, detail) {
  return withLast(job, () => ({ ended_at: at, outcome, detail }));
}

function withLast(job, change) {
  const last = job.attempts.at(-1);
  return [...job.attempts.slice(0, -1), { ...last, ...change(last) }];
}

function artifact({ digest, media_type, bytes, width = null, height = null }) {
  return { digest, media_type, bytes, width, height, url: `/v1/artifacts/${digest}` };
}
