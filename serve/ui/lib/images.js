/** Page images: fetched when they come near the window, since an <img> cannot send a key. */

import { getImage } from "./api.js";
import { el } from "./element.js";
import { t } from "./language.js";

const TRIES = 3;
const waiting = new WeakMap();

const observer = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      observer.unobserve(target);
      waiting.get(target)?.();
      waiting.delete(target);
    }
  },
  { rootMargin: "400px" },
);

/** Show a page's image in an <img>; resolves when it is there. */
export async function loadImage(image, url, widthPx, signal) {
  const objectUrl = URL.createObjectURL(await patiently(() => getImage(url, widthPx, signal)));
  try {
    signal?.throwIfAborted();
    image.src = objectUrl;
    await image.decode();
  } finally {
    URL.revokeObjectURL(objectUrl);
  }
}

async function patiently(fetching) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await fetching();
    } catch (error) {
      if (error.status !== 503 || tries === TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, error.retryAfterS * 1000));
    }
  }
}

/** A frame whose image is fetched once it comes near; `signal` gives it up. */
export function lazyImage(url, { alt, widthPx, signal }) {
  const image = el("img", { alt, decoding: "async" });
  const frame = el("span", { class: "frame", "data-state": "loading" }, image);
  waiting.set(frame, async () => {
    try {
      await loadImage(image, url, widthPx, signal);
      frame.dataset.state = "ready";
    } catch (error) {
      if (error.name === "AbortError") return;
      frame.dataset.state = "failed";
      frame.append(el("span", { class: "frame-note" }, t("imageMissing")));
    }
  });
  observer.observe(frame);
  return frame;
}
