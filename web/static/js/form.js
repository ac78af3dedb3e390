// The submit form: a prompt, a model, and the options that the model's task has. What the service refuses is shown
// at the field it names.

import * as api from "./api.js";
import { byId, make, setHidden, setText } from "./dom.js";
import { complainAt, fieldsOf, REQUEST, requestField, tagsIn } from "./fields.js";
import { plural, sentence } from "./format.js";

export class SubmitForm {
  models = [];
  #schemas = new Map(); // task -> JSON Schema of its params
  #fields = [];
  #request = Object.keys(REQUEST).map((name) => requestField(name)); // priority first
  #parent = null; // id of the job that this one is made from
  #again = null; // its task, which may be another than the model's first
  #sending = null; // {text, key} of a request whose answer has not come

  /** `onSubmitted(id)` is called with each job or batch that the service took. */
  constructor({ store, onSubmitted }) {
    Object.assign(this, { store, onSubmitted });
    byId("model").addEventListener("change", () => this.#forget());
    byId("timing-fields").append(...this.#request.slice(1).map(({ node }) => node));
    const form = byId("submit-form");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    form.addEventListener("input", () => this.#showChanged());
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
  }

  /** Fetch what can be made. Throws a Problem. */
  async load() {
    const [tasks, models] = await Promise.all([api.tasks(), api.models()]);
    this.#schemas = new Map(tasks.map(({ name, schema }) => [name, schema]));
    this.models = models;
    this.store.putModels(models);
    const chosen = byId("model").value;
    byId("model").replaceChildren(...models.map(({ id }) => make("option", { value: id }, id)));
    if (models.some(({ id }) => id === chosen)) byId("model").value = chosen;
    this.#choose(this.#fields.length ? this.#params() : {});
  }

  /** Take over everything of an earlier job, its seed too. */
  fill(job) {
    this.#parent = job.id;
    this.#again = job.task;
    if (this.models.some(({ id }) => id === job.model)) byId("model").value = job.model;
    byId("prompt").value = job.params.prompt ?? "";
    this.#choose(job.params);
    for (const field of this.#request) field.write({ ...job, tags: job.tags.join(", "), not_before: "", finish_deadline: "" });
    byId("options").open = true;
    this.#showChanged();
    byId("prompt").focus();
  }

  /** Ask the chosen model for its first task again. */
  #forget() {
    this.#again = null;
    this.#choose(this.#params());
  }

  get #model() {
    return this.models.find(({ id }) => id === byId("model").value);
  }

  get #task() {
    const { tasks } = this.#model;
    return tasks.includes(this.#again) ? this.#again : tasks[0];
  }

  get #schema() {
    return this.#schemas.get(this.#task);
  }

  /** Show the fields of the chosen model; what was entered stays where it still means something. */
  #choose(params) {
    this.#fields = fieldsOf(this.#schema, this.#model);
    for (const field of this.#fields) field.write(params);
    byId("option-fields").replaceChildren(...this.#fields.map(({ node }) => node), this.#request[0].node);
    setText(byId("model-hint"), this.#model.title);
    setHidden(byId("prompt-field"), !("prompt" in this.#schema.properties));
    this.#complainNowhere();
    this.#showChanged();
  }

  /** What differs from the model's defaults, as params. */
  #params() {
    return Object.assign({}, ...this.#fields.filter((field) => field.isChanged()).map((field) => field.read()));
  }

  #showChanged() {
    const [priority, ...timing] = this.#request;
    for (const [id, fields] of [["options", [...this.#fields, priority]], ["timing", timing]]) {
      const changed = fields.filter((field) => field.isChanged()).length;
      setText(byId(`${id}-changed`), changed ? `${changed} changed` : "");
    }
  }

  async #submit() {
    if (byId("submit").ariaBusy === "true") return;
    this.#complainNowhere();
    if (!this.#model || this.#isWrong()) return;
    const body = this.#body();
    const text = JSON.stringify(body);
    // The same request after a lost answer carries the same key, so that it cannot make a second job.
    if (this.#sending?.text !== text) this.#sending = { text, key: api.newKey() };
    byId("submit").ariaBusy = "true";
    try {
      const made = await api.submit(body, this.#sending.key);
      this.#sending = this.#parent = null;
      if (this.#again) this.#forget();
      this.onSubmitted(made.id);
      if (made.params) this.store.put(made);
      this.#receipt(made);
    } catch (problem) {
      if (problem.status !== 0) this.#sending = null;
      this.#complain(problem);
    } finally {
      byId("submit").ariaBusy = null;
    }
  }

  #body() {
    const params = Object.assign({}, ...this.#fields.map((field) => field.read()));
    if ("prompt" in this.#schema.properties) params.prompt = byId("prompt").value.trim();
    const { count, tags, ...request } = Object.assign({}, ...this.#request.map((field) => field.read()));
    const body = { task: this.#task, model: this.#model.id, params, ...request };
    if (tags) body.tags = tagsIn(tags);
    if (this.#parent) body.parent = this.#parent;
    return count === 1 ? body : { ...body, count };
  }

  /** Point at what cannot even be sent. */
  #isWrong() {
    const needsPrompt = (this.#schema.required ?? []).includes("prompt");
    if (needsPrompt && byId("prompt").value.trim() === "") {
      complainAt(byId("prompt"), byId("prompt-error"), "say what the picture should show");
      byId("prompt").focus();
      return true;
    }
    const wrong = [...this.#fields, ...this.#request].find((field) => field.wrong());
    if (wrong) this.#complainAt(wrong, wrong.wrong());
    return Boolean(wrong);
  }

  /** Show a refusal at the field it names, or under the form when it names none of ours. */
  #complain({ message, field: path }) {
    const text = message.replaceAll("`", "").replace(/^params\.\w+: /, "");
    const name = (path ?? "").replace(/^params\./, "");
    const field = [...this.#fields, ...this.#request].find(({ names }) => names.includes(name));
    if (name === "prompt" || name === "model") {
      complainAt(byId(name), byId(`${name}-error`), text);
      byId(name).focus();
    } else if (field) {
      this.#complainAt(field, text);
    } else {
      setText(byId("form-error"), sentence(text));
      setHidden(byId("form-error"), false);
    }
  }

  #complainAt(field, text) {
    field.node.closest("details").open = true;
    field.complain(text);
    field.control.focus();
  }

  #complainNowhere() {
    for (const field of [...this.#fields, ...this.#request]) field.complain(null);
    for (const name of ["prompt", "model"]) complainAt(byId(name), byId(`${name}-error`), null);
    setHidden(byId("form-error"), true);
    byId("receipt").replaceChildren();
  }

  #receipt(made) {
    if (!made.params) {
      byId("receipt").textContent = `Submitted: ${plural(made.jobs, "job")} in one batch`;
      return;
    }
    const ahead = made.rank ? made.rank - 1 : 0;
    const place = ahead ? `, ${plural(ahead, "job")} ahead of it` : "";
    byId("receipt").replaceChildren("Submitted: ", make("a", { href: `#/jobs/${made.id}` }, "this job"), place);
  }
}
