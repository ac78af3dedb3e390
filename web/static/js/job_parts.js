// The parts of a job's page that only show what the job says: why it failed, its parameters, its files.

import { make } from "./dom.js";
import { bytes, clock, duration, sentence } from "./format.js";

const ADVICE = {
  "invalid-input": "Change the parameters and submit it again.",
  "model-missing": "Start a worker that has the model.",
  "out-of-memory": "Ask for a smaller picture, or for a worker with more memory.",
  crash: "The process that ran it ended. Retry; if it ends again, the worker's log says more.",
  lost: "Its worker was lost. Retry.",
  timeout: "It took longer than anybody waits for. Retry, or ask for less.",
  internal: "A fault of the worker. Retry; if it fails again, the worker's log says more.",
};

export function failure({ error }) {
  if (!error) return [];
  return [
    make(
      "section",
      { class: "failure", "aria-labelledby": "failure-heading" },
      make("h2", { id: "failure-heading" }, "Why it failed"),
      make("p", { class: "reason" }, sentence(error.message)),
      make("p", { class: "hint" }, ADVICE[error.kind] ?? sentence(error.kind)),
      error.detail
        ? make("details", {}, make("summary", {}, "Details"), make("pre", { tabindex: "0" }, error.detail))
        : null,
    ),
  ];
}

export function parameters(job) {
  const { params, model, task, priority, submitter, metadata } = job;
  const tags = job.tags.join(", ");
  // The prompt first: it is what one looks for. An erased one is not there at all.
  const background = job.background ? "yes" : "";
  const times = Object.fromEntries(
    ["not_before", "start_deadline", "finish_deadline"].map((name) => [name, job[name] ? clock(job[name]) : ""]),
  );
  const asked = { model, task, priority, background, ...times, tags, ...metadata, submitter };
  const facts = { prompt: "", ...params, ...asked, made_from: job.parent ?? "", batch: job.batch ?? "", job: job.id };
  const rows = Object.entries(facts).filter(([, value]) => value !== "");
  return [section("Parameters", make("dl", {}, ...rows.flatMap(pair)))];
}

export function files({ artifacts, facts }) {
  if (artifacts.length === 0) return [];
  const items = artifacts.map(({ url, digest, media_type, bytes: size, width, height, frames, fps, seconds }) => {
    const traits = [
      width && `${width} × ${height} px`,
      frames && `${frames} frames, ${duration(frames / fps)}`,
      seconds && duration(seconds),
      bytes(size),
    ];
    return make(
      "li",
      {},
      make("a", { href: url, download: nameOf(digest, media_type) }, `Download ${media_type}`),
      make("p", { class: "hint" }, traits.filter(Boolean).join(", ")),
      make("p", { class: "digest", title: "SHA-256 of the file, and its name in the store" }, digest),
    );
  });
  const list = make("ul", {}, ...items);
  const made = Object.entries(facts);
  if (made.length === 0) return [section("Files", list)];
  const how = make("dl", {}, ...made.flatMap(pair));
  const summary = make("summary", {}, "How it was made");
  return [section("Files", list, make("details", {}, summary, how))];
}

const nameOf = (digest, media_type) => `${digest.slice(0, 16)}.${media_type.split("/")[1].replace("plain", "txt")}`;

function section(name, ...children) {
  const id = `${name.toLowerCase()}-heading`;
  return make("section", { class: name.toLowerCase(), "aria-labelledby": id }, make("h2", { id }, name), ...children);
}

function pair([name, value]) {
  const text = value !== null && typeof value === "object" ? JSON.stringify(value, null, 1) : String(value);
  return [make("dt", {}, sentence(name)), make("dd", {}, text)];
}
