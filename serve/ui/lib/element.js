/** Elements out of data. Data only ever becomes text nodes and attributes, never markup. */

const SVG = "http://www.w3.org/2000/svg";

/** An element; functions become listeners, booleans attributes without value, null nothing. */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (typeof value === "boolean") node.toggleAttribute(name, value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** A decorative icon out of icons.svg. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `ui/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/** A button that shows an icon; its label is read aloud and shown as a tooltip. */
export function iconButton(name, label, click, properties = {}) {
  const given = { type: "button", class: "plain", "aria-label": label, title: label, click };
  return el("button", { ...given, ...properties }, icon(name));
}

/** Text with `<mark>` around ranges of code points [start, end). */
export function marked(text, ranges) {
  const fragment = document.createDocumentFragment();
  const points = Array.from(text);
  let at = 0;
  for (const [start, end] of [...(ranges ?? [])].sort((a, b) => a[0] - b[0])) {
    if (start < at || end <= start || end > points.length) continue;
    if (start > at) fragment.append(points.slice(at, start).join(""));
    fragment.append(el("mark", {}, points.slice(start, end).join("")));
    at = end;
  }
  fragment.append(points.slice(at).join(""));
  return fragment;
}

export function byId(id) {
  return document.getElementById(id);
}
