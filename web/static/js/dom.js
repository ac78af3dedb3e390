// Making and updating DOM nodes. Text goes in as text only: nothing here can turn a string into markup.

/** An element with attributes, listeners (`onclick: …`) and children (nodes or strings; null is left out). */
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

export const byId = (id) => document.getElementById(id);

/** Set the text only when it differs: a write that changes nothing would still cost a layout. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setHidden(node, hidden) {
  if (node.hidden !== hidden) node.hidden = hidden;
}

/** Set an attribute when it differs; null removes it. */
export function setAttribute(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/**
 * Children of one parent, one per key. `sync(items)` makes, updates, orders and drops them; a child that stays
 * is never taken out of the document, so focus and loaded pictures survive. Where the focus was in a child that
 * goes, `home` gets it: at the top of the document a keyboard would have to begin anew.
 * `create(item)` gives {node, update(item)}.
 */
export class KeyedChildren {
  constructor(parent, keyOf, create, home = null) {
    Object.assign(this, { parent, keyOf, create, home, parts: new Map() });
  }

  sync(items) {
    const wanted = new Set(items.map(this.keyOf));
    for (const [key, part] of this.parts) {
      if (wanted.has(key)) continue;
      if (part.node.contains(document.activeElement)) this.home?.focus({ preventScroll: true });
      part.node.remove();
      this.parts.delete(key);
    }
    let next = this.parent.firstElementChild;
    for (const item of items) {
      const key = this.keyOf(item);
      let part = this.parts.get(key);
      if (!part) this.parts.set(key, (part = this.create(item)));
      part.update(item);
      if (part.node === next) next = next.nextElementSibling;
      else this.parent.insertBefore(part.node, next);
    }
  }
}
