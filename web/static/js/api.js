// The HTTP API as functions. Every failure is thrown as a Problem (RFC 9457), a lost connection included.

export class Problem extends Error {
  /** `facts` is the problem document; `field` the path of the field it names, such as params.steps. */
  constructor(facts) {
    super(facts.detail ?? facts.title ?? "the service gave no reason");
    this.facts = facts;
    this.status = facts.status ?? 0;
    this.field = facts.field ?? null;
  }
}

/** How far this machine's clock is ahead of the service's, in ms; from the Date header, so good to a second. */
export let clockAhead_ms = 0;

export const tasks = () => ask("GET", "/v1/tasks").then((answer) => answer.tasks);
export const models = () => ask("GET", "/v1/models").then((answer) => answer.models);
export const workers = () => ask("GET", "/v1/workers").then((answer) => answer.workers);
export const job = (id) => ask("GET", path(id));
export const jobs = (statuses, limit, cursor) => ask("GET", `/v1/jobs?${listQuery(statuses, limit, cursor)}`);
export const jobEvents = (id) => ask("GET", `${path(id)}/events`).then((answer) => answer.events);
/** The text in a stored file. */
export const text = (address) => fetch(address).then((answer) => (answer.ok ? answer.text() : "The file is not there."));
export const cancel = (id) => ask("POST", `${path(id)}/cancel`);
export const retry = (id) => ask("POST", `${path(id)}/retry`);
export const hold = (id) => ask("POST", `${path(id)}/hold`);
export const release = (id) => ask("POST", `${path(id)}/release`);
/** `where` is top, bottom, before or after; `other` is the job to stand beside. */
export const move = (id, where, other) => ask("POST", `${path(id)}/move`, { where, other });
export const edit = (id, changes) => ask("PATCH", path(id), changes);
export const cancelBatch = (batch) => ask("POST", `/v1/batches/${encodeURIComponent(batch)}/cancel`);
/** Without `expected` nothing is done but counting. */
export const bulk = (action, which, expected) => ask("POST", "/v1/jobs/bulk", { action, which, expected });
export const releaseWorker = (name) => ask("POST", `/v1/workers/${encodeURIComponent(name)}/release`);
export const drain = (queue) => ask("POST", `/v1/queues/${encodeURIComponent(queue)}/drain`);
export const pause = (queue) => ask("POST", `/v1/queues/${encodeURIComponent(queue)}/pause`);
export const resume = (queue) => ask("POST", `/v1/queues/${encodeURIComponent(queue)}/resume`);
export const logOut = () => ask("DELETE", "/v1/session");
export const logIn = (key) => ask("POST", "/v1/session", { key });

/** Submit a job; the same `key` submits the same job, however often it is sent. */
export const submit = (body, key) => ask("POST", "/v1/jobs", body, { "Idempotency-Key": key });

/** A random Idempotency-Key. Not crypto.randomUUID: a page over plain HTTP in a LAN has none. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const path = (id) => `/v1/jobs/${encodeURIComponent(id)}`;

function listQuery(statuses, limit, cursor) {
  const query = new URLSearchParams(statuses.map((status) => ["status", status]));
  query.set("limit", limit);
  if (cursor !== null) query.set("cursor", cursor);
  return query;
}

async function ask(method, address, body, headers = {}) {
  const request = { method, headers: { ...headers } };
  if (method !== "GET") {
    request.headers["Content-Type"] = "application/json";
    request.body = JSON.stringify(body ?? {});
  }
  let answer;
  try {
    answer = await fetch(address, request);
  } catch {
    throw new Problem({ title: "unreachable", detail: "the service does not answer; try again" });
  }
  noteClock(answer.headers.get("Date"));
  const text = await answer.text();
  const content = text && (answer.headers.get("Content-Type") ?? "").includes("json") ? JSON.parse(text) : {};
  if (!answer.ok) throw new Problem({ status: answer.status, ...content });
  return content;
}

function noteClock(date) {
  const ahead_ms = date ? Date.now() - Date.parse(date) : 0;
  clockAhead_ms = Math.abs(ahead_ms) > 2000 ? ahead_ms : 0; // the header has whole seconds
}
