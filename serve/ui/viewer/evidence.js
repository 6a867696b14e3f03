/** What stands out on a page, drawn over its image: warm where it is, boxes around the strongest. */

import { getEvidence, getQuality } from "../lib/api.js";
import { explain } from "../lib/dialogs.js";
import { el } from "../lib/element.js";
import { t } from "../lib/language.js";

const WIDTH_PX = 1000; // of the drawing; it is stretched over the image
const MOST_OPACITY = 0.55;

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Cells as a picture of one pixel each; the browser smooths it as it is stretched. */
function heatImage(heat) {
  const canvas = el("canvas");
  canvas.height = heat.length;
  canvas.width = heat[0].length;
  const context = canvas.getContext("2d");
  context.fillStyle = color("--heat");
  heat.forEach((row, y) => row.forEach((value, x) => {
    context.globalAlpha = MOST_OPACITY * value;
    context.fillRect(x, y, 1, 1);
  }));
  return canvas;
}

/** Put a canvas exactly where an image of the same container is shown. */
export function layOver(canvas, image) {
  for (const [side, px] of [
    ["left", image.offsetLeft], ["top", image.offsetTop],
    ["width", image.offsetWidth], ["height", image.offsetHeight],
  ]) canvas.style[side] = `${px}px`;
}

/** Draw `{heat, regions}` on a canvas that lies over an image of this shape. */
function drawEvidence(canvas, { heat, regions }, { width, height }) {
  canvas.width = WIDTH_PX;
  canvas.height = Math.round((WIDTH_PX * height) / width);
  const context = canvas.getContext("2d");
  if (heat?.length) context.drawImage(heatImage(heat), 0, 0, canvas.width, canvas.height);
  context.strokeStyle = color("--heat-edge");
  context.lineWidth = 3;
  for (const { box: [left, top, right, bottom] } of regions) {
    context.strokeRect(left * canvas.width, top * canvas.height,
      (right - left) * canvas.width, (bottom - top) * canvas.height);
  }
}

/**
 * What is drawn over a page: its evidence, what is hard to read, or nothing. `parts()`: the canvas, the
 * image, the line that says what is seen, and a button for each; `place()`: the page, what was asked, a signal.
 */
export function createOverlay(parts, place) {
  const kinds = ["evidence", "quality"];
  let kind = "";

  function find(wanted, { asked: { pageId, tenant, q }, signal }) {
    if (wanted === "evidence") return getEvidence(pageId, { tenant, q, signal });
    return getQuality(pageId, { tenant, signal });
  }

  /** A model that sleeps takes its time to wake. */
  async function show() {
    const { canvas, image, seen, ...buttons } = parts();
    const here = place();
    if (kind === "evidence" && !here.asked.q) kind = "";
    for (const name of kinds) buttons[name].setAttribute("aria-pressed", String(kind === name));
    buttons.evidence.disabled = !here.asked.q;
    canvas.hidden = true;
    seen.textContent = kind ? t("looking") : "";
    if (!kind) return;
    const wanted = kind;
    const isOld = () => here.signal.aborted || kind !== wanted || here.page !== place().page;
    try {
      const found = await find(wanted, here);
      if (isOld()) return;
      drawEvidence(canvas, found, { width: here.page.width_px, height: here.page.height_px });
      canvas.hidden = false;
      layOver(canvas, image);
      const said = wanted === "quality" ? "seenQuality" : `seen_${found.method}`;
      seen.textContent = t(found.regions.length ? said : "seenNothing");
    } catch (error) {
      if (error.name === "AbortError" || isOld()) return;
      kind = "";
      buttons[wanted].setAttribute("aria-pressed", "false");
      const { title, text } = explain(error);
      seen.textContent = `${title} ${text}`;
    }
  }

  return {
    show,
    toggle(wanted) {
      kind = kind === wanted ? "" : wanted;
      if (place().page) show();
    },
    off() {
      kind = "";
    },
  };
}
