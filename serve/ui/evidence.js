/** What stands out on a page, drawn over its image: warm where it is, boxes around the strongest. */

import { el } from "./element.js";

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
export function drawEvidence(canvas, { heat, regions }, { width, height }) {
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
