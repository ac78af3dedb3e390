// Changing a job that does not run: its params, priority, tags; one that has ended goes back to its queue.

import * as api from "./api.js";
import { openDialog } from "./dialog.js";
import { make } from "./dom.js";
import { fieldsOf, requestField, tagsIn } from "./fields.js";
import { isFinished } from "./fold.js";
import { title } from "./format.js";

/** Open the dialog. What it changes comes back as an event. */
export async function editJob(job, store) {
  const schema = (await api.tasks()).find(({ name }) => name === job.task)?.schema;
  const model = store.models.find(({ id }) => id === job.model);
  const params = schema && model ? fieldsOf(schema, model, "edit", { hasPrompt: true }) : [];
  const priority = requestField("priority", "edit");
  const tags = requestField("tags", "edit");
  const fields = [...params, priority, tags];
  for (const field of params) field.write(job.params);
  priority.write(job);
  tags.write({ tags: job.tags.join(", ") });

  function act() {
    for (const field of fields) field.complain(null);
    const wrong = fields.find((field) => field.wrong());
    if (wrong) return complain(wrong, wrong.wrong());
    return api.edit(job.id, {
      params: changesOf(params, job.params),
      priority: priority.read().priority,
      tags: tagsIn(tags.control.value),
    });
  }

  function complain(field, message) {
    field.complain(message);
    field.control.focus();
    return false;
  }

  function onProblem({ message, field: path }) {
    const name = (path ?? "").replace(/^params\./, "");
    const field = fields.find(({ names }) => names.includes(name));
    if (field) complain(field, message.replaceAll("`", "").replace(/^(params\.)?\w+: /, ""));
    return Boolean(field);
  }

  const grid = make("div", { class: "fields" }, ...fields.map(({ node }) => node));
  const submit = isFinished(job) ? "Change and requeue" : "Change";
  openDialog(`Change: ${title(job)}`, { content: [grid], submit, act, onProblem });
}

/** Only what differs: a param emptied goes back to its default. */
function changesOf(fields, params) {
  const changes = {};
  for (const field of fields) {
    const read = field.read();
    for (const name of field.names) if (read[name] !== params[name]) changes[name] = read[name] ?? null;
  }
  return changes;
}
