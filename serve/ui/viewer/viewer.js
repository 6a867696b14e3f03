/** One page, large, with its text beside it. */

import { getImage, getOriginal, getPage, imageUrl } from "../lib/api.js";
import { announce, explain, toast } from "../lib/dialogs.js";
import { byId, el, iconButton, marked } from "../lib/element.js";
import { loadImage } from "../lib/images.js";
import { onLanguage, t } from "../lib/language.js";
import { documentName, fileBeside } from "../lib/naming.js";
import { qualityBadge, scoreList } from "../search/card.js";
import { createOverlay, layOver } from "./evidence.js";

const STEP_PX = 400; // widths asked for, so that few sizes are made
const WIDEST_PX = 2000;
const QUERY_PX = 1200;

/** Start a download of a document's original file. */
export async function download(document) {
  try {
    const objectUrl = URL.createObjectURL(await getOriginal(document));
    const link = el("a", { href: objectUrl, download: document.source });
    link.click();
    setTimeout(() => URL.revokeObjectURL(objectUrl), 60_000);
  } catch (error) {
    toast(error.status === 404 ? t("originalMissing") : explain(error).title, { failed: true });
  }
}

/** `moved(page, {tenant})` after each page shown, `closed()`, `similar(file)`, `neighbour(hit, by)`. */
export function createViewer({ moved, closed, similar, neighbour }) {
  const dialog = byId("viewer");
  let shown = null; // the page as the server gives it
  let asked = null; // {page_id, tenant, q, scores}
  let loading = new AbortController();
  let steps = Promise.resolve();
  let parts = {};
  const overlay = createOverlay(() => parts, () => ({ page: shown, asked, signal: loading.signal }));

  function build() {
    const button = (name, label, click) => iconButton(name, t(label), click);
    parts = {
      title: el("h2", { id: "viewer-title" }, "…"),
      where: el("p", { class: "note" }),
      previous: button("previous", "previousPage", () => step("previous")),
      next: button("next", "nextPage", () => step("next")),
      count: el("span", { class: "page-count" }),
      image: el("img", { alt: "" }),
      text: el("div", { class: "page-text" }),
      scores: el("div"),
      matches: el("span", { class: "note" }),
      canvas: el("canvas", { class: "evidence", hidden: true }),
      seen: el("p", { class: "note", role: "status" }),
      evidence: button("evidence", "showEvidence", () => overlay.toggle("evidence")),
      quality: button("quality", "showQuality", () => overlay.toggle("quality")),
    };
    parts.sheet = el("div", {
      class: "sheet", tabindex: "0", role: "region", autofocus: true, "aria-label": t("pageImage"),
    }, el("div", { class: "paper" }, parts.image, parts.canvas),
    el("p", { class: "sheet-note" }));
    parts.zoom = button("zoom", "zoom", zoom);
    parts.zoom.setAttribute("aria-pressed", "false");
    dialog.replaceChildren(
      el("header", { class: "viewer-bar" },
        el("div", { class: "viewer-name" }, parts.title, parts.where),
        el("div", { class: "pager" }, parts.previous, parts.count, parts.next),
        el("div", { class: "tools" },
          parts.evidence,
          parts.quality,
          parts.zoom,
          button("similar", "similarPages", findSimilar),
          button("download", "downloadOriginal", () => shown && download(shown)),
          button("close", "close", () => dialog.close()))),
      el("div", { class: "viewer-body" },
        parts.sheet,
        el("section", { class: "side", "aria-label": t("pageText"), tabindex: "0" },
          el("div", { class: "side-head" },
            el("h3", {}, t("pageText")), parts.matches, button("copy", "copyText", copyText)),
          parts.seen,
          parts.scores,
          parts.text)),
      el("div", { class: "unseen live", role: "status" }));
    parts.image.addEventListener("click", zoom);
    new ResizeObserver(() => layOver(parts.canvas, parts.image)).observe(parts.image);
  }

  async function show(pageId, { tenant = "", q = "", scores = null, replace = false } = {}) {
    loading.abort();
    loading = new AbortController();
    const { signal } = loading;
    asked = { pageId, tenant, q, scores };
    if (!dialog.open) {
      build();
      dialog.showModal();
    }
    dialog.dataset.state = "loading";
    try {
      shown = await getPage(pageId, { tenant, q, signal });
      if (signal.aborted) return;
      fill(replace);
      showImage(shown.image_url || imageUrl(pageId, tenant), signal);
      overlay.show();
    } catch (error) {
      fail(error);
    }
  }

  async function showImage(url, signal) {
    try {
      await loadImage(parts.image, url, widthPx(), signal);
      dialog.dataset.state = "ready";
    } catch (error) {
      fail(error);
    }
  }

  function fail(error) {
    if (error.name === "AbortError") return;
    const { title, text } = error.name === "EncodingError" ? { title: t("imageMissing"), text: "" } : explain(error);
    dialog.dataset.state = "failed";
    const retry = el("button", { type: "button", click: () => show(asked.pageId, asked) }, t("retry"));
    dialog.querySelector(".sheet-note").replaceChildren(el("b", {}, title), ` ${text} `, retry);
    announce(title);
  }

  function fill(replace) {
    const { scores } = asked;
    parts.title.textContent = documentName(shown);
    const facts = Object.entries(shown.metadata ?? {}).map(([name, value]) => `${name}: ${value}`);
    const tags = shown.tags.map((tag) => `# ${tag}`);
    parts.where.textContent = [fileBeside(shown), ...tags, ...facts].filter(Boolean).join("   ");
    parts.count.textContent = t("pageOf", shown.page, shown.pages);
    parts.previous.disabled = !shown.previous;
    parts.next.disabled = !shown.next;
    parts.image.width = shown.width_px;
    parts.image.height = shown.height_px;
    parts.image.alt = t("imageOfPage", shown.page, shown.source);
    parts.scores.replaceChildren(qualityBadge(shown) ?? "", scores ? scoreList(scores) : "");
    parts.matches.textContent = asked.q ? t("matchCount", (shown.matches ?? []).length) : "";
    const text = shown.text.trim() ? marked(shown.text, shown.matches) : el("p", { class: "note" }, t("noText"));
    parts.text.replaceChildren(text);
    parts.sheet.scrollTo(0, 0);
    dialog.querySelector(".side").scrollTo(0, 0);
    parts.text.querySelector("mark")?.scrollIntoView({ block: "nearest" });
    announce(`${parts.title.textContent}, ${parts.count.textContent}`);
    moved(shown, { replace });
  }

  function widthPx() {
    const wanted = parts.sheet.clientWidth * Math.min(window.devicePixelRatio, 2);
    return Math.min(Math.ceil(Math.max(wanted, 800) / STEP_PX) * STEP_PX, WIDEST_PX);
  }

  /** One after the other, so that keys pressed fast go as many pages. */
  function step(side) {
    steps = steps.then(() => {
      const page = dialog.open && shown?.[side];
      return page ? show(page, { ...asked, scores: null, replace: true }) : null;
    });
  }

  function stepHit(by) {
    const hit = neighbour(asked.pageId, by);
    if (hit) show(hit.page_id, { ...asked, tenant: hit.tenant, scores: hit.scores, replace: true });
  }

  function zoom() {
    const large = dialog.classList.toggle("large");
    parts.zoom.setAttribute("aria-pressed", String(large));
  }

  async function findSimilar() {
    if (!shown) return;
    try {
      const blob = await getImage(shown.image_url, QUERY_PX);
      const file = new File([blob], `${shown.source}-${shown.page}.jpg`, { type: blob.type });
      dialog.close();
      similar(file);
    } catch (error) {
      toast(explain(error).title, { failed: true });
    }
  }

  async function copyText() {
    try {
      await navigator.clipboard.writeText(shown.text);
      toast(t("copied"));
    } catch {
      getSelection().selectAllChildren(parts.text); // no clipboard without https: one key is left to press
      toast(t("selected"));
    }
  }

  const keys = {
    ArrowLeft: () => step("previous"), ArrowRight: () => step("next"),
    j: () => stepHit(1), k: () => stepHit(-1), z: zoom,
    e: () => asked.q && overlay.toggle("evidence"), o: () => overlay.toggle("quality"),
  };
  dialog.addEventListener("keydown", (event) => {
    const modified = event.ctrlKey || event.metaKey || event.altKey;
    if (modified || event.isComposing || !(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  });
  dialog.addEventListener("close", () => {
    loading.abort();
    overlay.off();
    dialog.classList.remove("large");
    const page = shown;
    shown = null;
    closed(page ?? { page_id: asked?.pageId });
  });
  onLanguage(() => {
    if (!dialog.open || !shown) return;
    build();
    show(asked.pageId, { ...asked, replace: true });
  });

  return { show, isOpen: () => dialog.open, close: () => dialog.open && dialog.close() };
}
