// What a waiting job waits for, in words: chips for what sets it apart, and when it is thought to be done.

import { clockAhead_ms } from "./api.js";
import { make } from "./dom.js";
import { clock, plural } from "./format.js";

/** Chips of a job: {kind, text, title}. `why` is why no worker can run it, null when one can. */
export function chipsOf(job, why) {
  const { status, not_before, expired, background, batch, tags } = job;
  const chips = [];
  if (status === "held") chips.push({ kind: "held", text: "held" });
  if (status === "scheduled") chips.push({ kind: "scheduled", text: `from ${clock(not_before)}` });
  if (status === "expired") chips.push({ kind: "expired", text: expiredWords(expired) });
  if (why) chips.push({ kind: "blocked", text: "no worker", title: blockedWords(why) });
  if (background) chips.push({ kind: "background", text: "background", title: "Runs when nothing else waits" });
  if (batch) chips.push({ kind: "batch", text: `batch ${batch.slice(-4)}`, title: `Batch ${batch}` });
  for (const tag of tags) chips.push({ kind: "tag", text: tag, title: `Tag ${tag}` });
  return chips;
}

/** A small word about a job. */
export function chip({ kind, text, title }) {
  return make("span", { class: "chip-of", "data-kind": kind, title }, text);
}

export const blockedWords = (why) => `No worker can run this: ${why}`;

export const expiredWords = (deadline) => (deadline === "start" ? "not started in time" : "not finished in time");

/** `about 14:32, by 14:40 at the latest; 3 ahead, model must load, still learning`; "" when nothing is known. */
export function etaWords(eta) {
  if (eta?.blocked === "withheld") return "given to nobody as things stand: a limit of its key is reached";
  if (readyWords(eta) === "") return "";
  const latest = clock(eta.done_p90_at);
  const by = latest === clock(eta.done_at) ? "" : `, by ${latest} at the latest`;
  const why = [
    eta.jobs_ahead ? `${plural(eta.jobs_ahead, "job")} ahead` : "",
    eta.cold_load_s > 0 ? "model must load" : "",
    eta.is_learning ? "still learning what it takes" : "",
  ].filter(Boolean);
  return `${readyWords(eta)}${by}${why.length ? `; ${why.join(", ")}` : ""}`;
}

/** `about 14:32`, with a question mark while its model's cost is a guess; "" when nothing is known, or is any more. */
export function readyWords(eta) {
  if (!eta?.done_at || Date.parse(eta.done_at) < Date.now() - clockAhead_ms) return "";
  return `about ${clock(eta.done_at)}${eta.is_learning ? "?" : ""}`;
}
