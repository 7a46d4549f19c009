// Elements of the page. Text is never parsed as markup.

const SVG = "http://www.w3.org/2000/svg";

// Returns an element with attributes and children, which are elements or text.
export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function drawing(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// Changes only what differs, so that screen readers, selections and the layout are not disturbed.
export function say(node, text) {
  if (node.textContent !== String(text)) node.textContent = text;
}

export function set(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

// Orders nodes, moving only those that are in another place, and keeps the focus.
export function arrange(parent, nodes) {
  const focused = document.activeElement;
  nodes.forEach((node, place) => {
    if (parent.children[place] !== node) parent.insertBefore(node, parent.children[place] ?? null);
  });
  while (parent.children.length > nodes.length) parent.lastElementChild.remove();
  if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
}

// Returns a list of [dt, dd] pairs, and the nodes of their values by key.
export function facts(names, attributes = {}) {
  const values = {};
  const rows = Object.entries(names).map(([key, label]) => {
    values[key] = element("dd", {}, "–");
    return element("div", {}, element("dt", {}, label), values[key]);
  });
  return [element("dl", attributes, ...rows), values];
}

export const word = (state) => state.toLowerCase().replace("_", "-");
export const percent = (share) => `${Math.round(share * 100)} %`;
export const span = (seconds) =>
  seconds < 99.5 ? `${Math.ceil(seconds)} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
export const milliseconds = (value) =>
  value === null ? "–" : value < 10 ? `${value.toFixed(1)} ms` : value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(2)} s`;
