/** What a search gave: hits, or why there are none and what to do. */

import { announce, explain } from "../lib/dialogs.js";
import { byId, el, icon } from "../lib/element.js";
import { formatNumber, onLanguage, t } from "../lib/language.js";
import { hitCard, skeletonCard } from "./card.js";

const SKELETONS = 6;

/** `actions`: open, addTag, onlyDocument, addressOf, more, retry, clearFilters, showDocuments. */
export function createResults(actions) {
  const section = byId("results");
  let state = { kind: "start" };
  let images = new AbortController();

  function title(text, ...after) {
    const heading = el("h2", { id: "results-title", tabindex: "-1" }, text);
    return el("div", { class: "results-head" }, heading, ...after);
  }

  function hint(name, heading, lines, buttons = []) {
    return el("div", { class: `hint ${name}` },
      el("div", { class: "hint-icon" }, icon(name === "error" ? "warning" : name)),
      el("h2", { id: "results-title", tabindex: "-1" }, heading),
      ...lines.map((line) => (typeof line === "string" ? el("p", {}, line) : line)),
      buttons.length ? el("div", { class: "actions" }, buttons) : null);
  }

  function button(text, click, kind = "") {
    return el("button", { type: "button", class: kind, click }, text);
  }

  const views = {
    start: ({ count }) => count === 0
      ? hint("document", t("empty"), [t("emptyText"), el("p", {}, el("code", {}, "quire ingest ./pdfs"))],
        [button(t("addDocuments"), actions.showDocuments, "primary")])
      : hint("search", t("start"), [t("startText"), count ? t("startCount", count) : null].filter(Boolean)),
    loading: () => [title(t("searching")),
      el("ol", { class: "hits", "aria-busy": "true" }, Array.from({ length: SKELETONS }, skeletonCard))],
    hits: ({ answer, exhausted }) => {
      const context = { ...actions, signal: images.signal };
      const cards = answer.hits.map((hit) =>
        hitCard(hit, { ...context, address: actions.addressOf(hit) }));
      return [title(t("hitCount", answer.hits.length), took(answer.took_ms)),
        el("ol", { class: "hits" }, cards),
        exhausted ? null : el("div", { class: "actions" }, button(t("more"), actions.more))];
    },
    none: ({ filtered, count }) => count === 0 ? views.start({ count })
      : hint("search", t("none"), [el("ul", {}, t("noneTry").map((line) => el("li", {}, line)))],
        filtered ? [button(t("clearFilters"), actions.clearFilters, "primary")] : []),
    error: ({ error, left }) => {
      const { title: heading, text } = explain(error);
      const refused = error.type === "unauthorized";
      const again = button(t(refused ? "enterKey" : "retry"), actions.retry, "primary");
      const wait = left > 0 ? [el("p", { class: "countdown" }, t("retryIn", left))] : [];
      const stop = left > 0 ? [button(t("stopRetrying"), actions.stop)] : [];
      return hint("error", heading, [text, ...wait].filter(Boolean), [again, ...stop]);
    },
    needsText: () => hint("search", t("needsText"), [t("needsTextText")]),
  };

  function took(tookMs) {
    const stages = ["embed", "search", "rerank"].filter((name) => tookMs?.[name] > 0);
    const parts = stages.map((name) => `${t(`${name}Stage`)} ${formatNumber(Math.round(tookMs[name]))}`);
    const total = t("milliseconds", formatNumber(Math.round(tookMs?.total ?? 0)));
    return el("span", { class: "took" }, el("b", {}, total), parts.length ? ` ${parts.join(" · ")}` : "");
  }

  function show() {
    images.abort();
    images = new AbortController();
    section.dataset.state = state.kind;
    section.replaceChildren(...[views[state.kind](state)].flat().filter(Boolean));
  }

  function say() {
    if (state.kind === "hits") announce(t("hitCount", state.answer.hits.length));
    else if (state.kind === "error") announce(explain(state.error).title);
    else if (state.kind !== "start") announce(section.querySelector("h2").textContent);
  }

  onLanguage(show);

  function links() {
    return [...section.querySelectorAll(".hit-link")];
  }

  return {
    set(kind, values = {}) {
      state = { kind, ...values };
      show();
      say();
    },
    get kind() {
      return state.kind;
    },
    /** Only the countdown, so that nothing is read aloud each second. */
    countDown(left) {
      const line = section.querySelector(".countdown");
      if (line) line.textContent = t("retryIn", left);
    },
    /** Keyboard: go `by` hits along, or rows where `rows` is set. */
    move(by, { rows = false } = {}) {
      const all = links();
      if (!all.length) return false;
      const here = document.activeElement.closest(".hit")?.querySelector(".hit-link");
      const at = all.indexOf(here);
      const top = (link) => Math.round(link.closest(".hit").getBoundingClientRect().top);
      const columns = all.filter((link) => top(link) === top(all[0])).length;
      const wanted = at < 0 ? 0 : at + by * (rows ? columns : 1);
      if (wanted < 0) return false;
      all[Math.min(wanted, all.length - 1)].focus();
      return true;
    },
    /** Focus the card of a page, if it is here. */
    focusPage(pageId) {
      const card = [...section.querySelectorAll(".hit")].find((hit) => hit.dataset.page === pageId);
      card?.querySelector(".hit-link").focus();
    },
    hits: () => state.answer?.hits ?? [],
  };
}
