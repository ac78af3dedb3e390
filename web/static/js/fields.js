// One parameter of a task as a form field, made from its JSON Schema. The service is the judge of values;
// here only what a browser cannot even send (half a number, nothing where something is needed) is refused.

import { make, setAttribute, setHidden, setText } from "./dom.js";
import { sentence } from "./format.js";

const UNITS = { s: "seconds", px: "px", ms: "ms", hz: "Hz" };
const LARGEST_SHOWN = 1e9; // a bound beyond it (a seed's) helps nobody

/** What a submission says besides its params; priority first, because it is asked for most. */
export const REQUEST = {
  priority: { type: "integer", minimum: 0, maximum: 100, default: 50, description: "higher runs first" },
  count: { type: "integer", minimum: 1, maximum: 1000, default: 1, title: "How many", description: "each with its own seed" },
  tags: { type: "string", description: "to find it by, with commas" },
  not_before: { format: "date-time", description: "waits until then" },
  finish_deadline: { format: "date-time", title: "Finish by", description: "not wanted any more after that" },
  background: { type: "boolean", title: "In the background", description: "runs when nothing else waits" },
  hold: { type: "boolean", title: "Hold it", description: "until it is released" },
};

/** The fields of a task on a model; the prompt may stand elsewhere. `prefix` sets them apart in the document. */
export function fieldsOf(schema, model, prefix = "field", { hasPrompt = false } = {}) {
  const fields = [];
  for (const [name, property] of Object.entries(schema.properties)) {
    if ((name === "prompt" && !hasPrompt) || (name === "height" && model.sizes.length)) continue;
    if (name === "width" && model.sizes.length) fields.push(new SizeField(model, prefix));
    else fields.push(new Field(name, { ...property, default: model.defaults[name] ?? property.default }, prefix));
  }
  return fields;
}

/** The field of one of REQUEST. */
export function requestField(name, prefix = "field") {
  const property = REQUEST[name];
  const kind = property.type === "boolean" ? CheckField : property.format ? InstantField : Field;
  return new kind(name, property, prefix);
}

/** The tags in what was typed. */
export const tagsIn = (text) => text.split(",").map((tag) => tag.trim()).filter(Boolean);

/** A label, a control, a hint and a place for what is wrong with it. */
export class Field {
  constructor(name, property, prefix = "field") {
    Object.assign(this, { name, property, names: [name] });
    const id = `${prefix}-${name}`;
    this.error = make("p", { class: "error", id: `${id}-error`, hidden: true });
    this.control = this.makeControl(id);
    setAttribute(this.control, "aria-describedby", `${id}-hint ${id}-error`);
    this.node = make(
      "div",
      { class: this.isWide() ? "field wide" : "field" },
      make("label", { for: id }, property.title ?? label(name)),
      this.control,
      make("p", { class: "hint", id: `${id}-hint` }, hint(property)),
      this.error,
    );
    this.write({});
  }

  makeControl(id) {
    const { type, enum: choices, minimum, maximum, multipleOf, maxLength = 0 } = this.property;
    if (choices) return make("select", { id }, ...choices.map((choice) => make("option", { value: choice }, choice)));
    if (type === "integer" || type === "number") {
      const step = type === "number" ? "any" : multipleOf;
      return make("input", { id, type: "number", min: minimum, max: maximum, step, placeholder: this.placeholder() });
    }
    return maxLength > 200 ? make("textarea", { id, rows: 2 }) : make("input", { id, type: "text" });
  }

  isWide() {
    return this.control.tagName === "TEXTAREA" || this.control.type === "datetime-local";
  }

  placeholder() {
    return this.property.default === undefined ? "random" : null;
  }

  /** Show these params, or the default where they say nothing. */
  write(params) {
    this.control.value = params[this.name] ?? this.property.default ?? "";
    this.complain(null);
  }

  /** What to send: nothing for an empty field. */
  read() {
    const text = this.control.value;
    if (this.control.type === "number") return text === "" ? {} : { [this.name]: Number(text) };
    return text === "" ? {} : { [this.name]: text };
  }

  isChanged() {
    return this.control.value !== String(this.property.default ?? "");
  }

  /** Why this cannot be sent, or null. */
  wrong() {
    return this.control.validity.badInput ? "this is no number; use digits" : null;
  }

  /** Show what is wrong, or with null that nothing is. */
  complain(message) {
    complainAt(this.control, this.error, message);
  }
}

/** Yes or no; no is not sent. */
class CheckField extends Field {
  makeControl(id) {
    return make("input", { id, type: "checkbox" });
  }

  write(params) {
    this.control.checked = params[this.name] ?? false;
  }

  read() {
    return this.control.checked ? { [this.name]: true } : {};
  }

  isChanged() {
    return this.control.checked;
  }
}

/** An instant, in the reader's own time zone. */
class InstantField extends Field {
  makeControl(id) {
    return make("input", { id, type: "datetime-local" });
  }

  read() {
    return this.control.value ? { [this.name]: new Date(this.control.value).toISOString() } : {};
  }

  wrong() {
    return this.control.validity.badInput ? "this is no whole date and time" : null;
  }
}

/** Width and height at once, where a model delivers certain sizes only. */
class SizeField extends Field {
  constructor(model, prefix) {
    const property = { sizes: model.sizes, description: "width × height, px", default: model.sizes[0].join(" × ") };
    super("size", property, prefix);
    this.names = ["width", "height"];
  }

  makeControl(id) {
    const names = this.property.sizes.map((size) => size.join(" × "));
    return make("select", { id }, ...names.map((name) => make("option", { value: name }, name)));
  }

  write({ width, height }) {
    const wanted = this.property.sizes.find((size) => size[0] === width && size[1] === height);
    super.write(wanted ? { size: wanted.join(" × ") } : {});
  }

  read() {
    const [width, height] = this.control.value.split(" × ").map(Number);
    return { width, height };
  }
}

/** Mark a control as wrong and say why, or as right again. */
export function complainAt(control, error, message) {
  setAttribute(control, "aria-invalid", message ? "true" : null);
  setText(error, message ?? "");
  setHidden(error, !message);
}

function label(name) {
  const [, stem, unit] = /^(.*)_([a-z]+)$/.exec(name) ?? [];
  return UNITS[unit] ? `${sentence(stem)} (${UNITS[unit]})` : sentence(name);
}

function hint({ description = "", minimum, maximum, multipleOf }) {
  const bounds = maximum <= LARGEST_SHOWN ? `${minimum ?? 0} to ${maximum}` : "";
  const grid = multipleOf ? `a multiple of ${multipleOf}` : "";
  return [description, bounds, grid].filter(Boolean).join(", ");
}
