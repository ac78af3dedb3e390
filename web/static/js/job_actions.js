// What can be done to a job as it stands: one list for its row's menu and its own page.

import * as api from "./api.js";
import { editJob } from "./edit.js";
import { isFinished } from "./fold.js";
import { announce } from "./frame.js";

/** Moves within the line: {name, act}; none for a job that is not in line. */
export function movesOf(job, store) {
  if (job.status !== "queued") return [];
  const { before, after } = store.neighbours(job);
  const move = (where, other) => async () => {
    const moved = await api.move(job.id, where, other);
    announce(moved.rank ? `Number ${moved.rank} in line` : "Moved");
  };
  return [
    ...(before ? [{ name: "Run next", act: move("top") }, { name: "Up", act: move("before", before.id) }] : []),
    ...(after ? [{ name: "Down", act: move("after", after.id) }, { name: "To the end", act: move("bottom") }] : []),
  ];
}

/** The rest but for a plain cancel and retry, which have buttons of their own. */
export function actionsOf(job, store) {
  const { id, status, batch } = job;
  const actions = [];
  if (status === "queued" || status === "scheduled") actions.push({ name: "Hold", act: () => api.hold(id) });
  if (status === "held") actions.push({ name: "Release", act: () => api.release(id) });
  if (status !== "running" && status !== "completed")
    actions.push({ name: isFinished(job) ? "Change and requeue…" : "Change…", act: () => editJob(job, store) });
  const open = batch ? store.openOfBatch(batch) : 0;
  if (open > 1) actions.push({ name: `Stop its batch (${open})`, act: () => api.cancelBatch(batch) });
  return actions;
}
