// Building and updating elements. Everything that comes from outside becomes text here and nowhere
// else: there is no innerHTML in this page, and the content security policy forbids it as well.

const SVG = "http://www.w3.org/2000/svg";

// An element: h("p", { class: "x", onclick: f }, "text", child, …).
export function h(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}

// The same in a drawing.
export function s(name, attributes, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

// Puts text where it differs: what did not change is not touched, so that a selection, a screen
// reader and the layout stay where they are.
export function say(element, text) {
  const words = String(text);
  if (element.textContent !== words) element.textContent = words;
}

export function mark(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) {
    element.setAttribute(name, String(value));
  }
}

// Inline style attributes are forbidden; the object model is not.
export function wide(element, share) {
  const width = `${(Math.max(0, Math.min(1, share)) * 100).toFixed(2)}%`;
  if (element.style.width !== width) element.style.width = width;
}

// Makes the children of a parent those of a list: an item keeps its element for as long as its key
// stays, so that focus survives a tick.
export function keyed(parent, items, key, make, update) {
  const known = parent.keyed ?? (parent.keyed = new Map());
  const seen = new Set();
  let at = null;
  for (const item of items) {
    const name = key(item);
    seen.add(name);
    if (!known.has(name)) known.set(name, make(item));
    const element = known.get(name);
    const next = at ? at.nextSibling : parent.firstChild;
    if (element !== next) parent.insertBefore(element, next);
    update(element, item);
    at = element;
  }
  for (const [name, element] of known) {
    if (!seen.has(name)) {
      element.remove();
      known.delete(name);
    }
  }
}

// Redraws a part only when what it shows has changed.
export function redraw(element, shown, draw) {
  const key = JSON.stringify(shown);
  if (element.shown === key) return;
  element.shown = key;
  element.replaceChildren(...draw().flat().filter(Boolean));
}
