/** A hit as a card, and its scores. */

import { el, iconButton, marked } from "../lib/element.js";
import { lazyImage } from "../lib/images.js";
import { formatNumber, t } from "../lib/language.js";
import { documentName, fileBeside } from "../lib/naming.js";

const WIDTH_PX = 320;
const LEAST = 0.001; // of a score; what is less is not told apart
export const SCORES = ["maxsim", "rerank", "fused", "dense", "text"]; // the last one to rank goes first

/** Scores as a list of terms; the one that ranked stands out, missing ones are left out. */
export function scoreList(scores) {
  const given = SCORES.filter((name) => typeof scores?.[name] === "number");
  return el("dl", { class: "scores", "aria-label": t("scores") }, given.map((name, at) =>
    el("div", { class: at ? "score" : "score ranking", title: scoreTitle(name, scores[name]), "data-score": name },
      el("dt", {}, t(`${name}Name`)),
      el("dd", {}, formatScore(scores[name])))));
}

function scoreTitle(name, score) {
  return `${t(`${name}Score`)} (${Number(score.toPrecision(5))})`;
}

function formatScore(score) {
  if (Math.abs(score) < LEAST) return `< ${formatNumber(LEAST)}`;
  return formatNumber(score, { maximumSignificantDigits: 3, minimumSignificantDigits: 2 });
}

/** How well OCR would read a page, where that was predicted. */
export function qualityBadge({ expected_cer: cer, verdict }) {
  if (typeof cer !== "number") return null;
  const percent = formatNumber(cer, { style: "percent", maximumFractionDigits: 0 });
  return el("span", { class: "quality", "data-verdict": verdict, title: t("qualityHelp", percent) },
    `OCR: ${t(`verdict_${verdict}`)}`);
}

/** `address`: what the page's own address is; `open`, `addTag`, `onlyDocument`: what buttons do. */
export function hitCard(hit, { address, open, addTag, onlyDocument, signal }) {
  const name = documentName(hit);
  const alt = t("imageOfPage", hit.page, hit.source);
  const openHit = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a tab of its own
    event.preventDefault();
    open(hit);
  };
  const label = `${name}, ${t("pageNumber", hit.page)}`;
  const link = el("a", { class: "hit-link", href: address, "aria-label": label, click: openHit }, name);
  const where = el("p", { class: "hit-where" }, el("b", {}, t("pageNumber", hit.page)));
  if (fileBeside(hit)) where.append(el("span", { title: hit.source }, hit.source));
  where.append(iconButton("only", t("onlyDocument"), () => onlyDocument(hit.doc_id, name)));
  const tags = hit.tags.map((tag) =>
    el("li", {}, el("button", {
      type: "button", class: "tag", "aria-label": t("filterByTag", tag), click: () => addTag(tag),
    }, tag)));
  return el("li", { class: "hit", "data-page": hit.page_id },
    el("span", { class: "rank", "aria-hidden": "true" }, String(hit.rank)),
    lazyImage(hit.image_url, { alt, widthPx: WIDTH_PX, signal }),
    el("div", { class: "hit-body" },
      el("h3", {}, link),
      where,
      el("p", { class: "snippet" }, marked(hit.snippet ?? "", hit.matches)),
      el("div", { class: "hit-foot" },
        tags.length ? el("ul", { class: "tags", "aria-label": t("tags") }, tags) : null,
        qualityBadge(hit),
        scoreList(hit.scores))));
}

export function skeletonCard() {
  const lines = ["wide", "short", "line", "line"].map((kind) => el("i", { class: `bone ${kind}` }));
  return el("li", { class: "hit skeleton", "aria-hidden": "true" },
    el("span", { class: "frame", "data-state": "loading" }), el("div", { class: "hit-body" }, lines));
}
