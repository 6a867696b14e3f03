/** Keys that work anywhere on the page, and the dialog that lists them. */

import { byId, el } from "./element.js";
import { onLanguage, t } from "./language.js";
import { SCORES } from "../search/card.js";

const LIST = [
  [["/"], "keySearch"], [["Enter"], "keyEnter"],
  [["j", "k"], "keyAlong"], [["↑", "↓"], "keyRows"],
  [["←", "→"], "keyPages"], [["z"], "keyZoom"],
  [["Esc"], "keyEscape"], [["Ctrl", "V"], "keyPaste"], [["?"], "keyHelp"],
];

function fill() {
  const keys = LIST.map(([names, text]) => el("div", {},
    el("dt", {}, names.map((name) => el("kbd", {}, name))), el("dd", {}, t(text))));
  const scores = SCORES.map((name) => el("div", {},
    el("dt", {}, t(`${name}Name`)), el("dd", {}, t(`${name}Score`))));
  byId("keys-body").replaceChildren(
    el("section", {}, el("h3", {}, t("keys")), el("dl", { class: "keys" }, keys)),
    el("section", {}, el("h3", {}, t("scores")), el("dl", { class: "keys" }, scores)));
}

/** `results`: moved through; `focusSearch()`. */
export function createKeys({ results, focusSearch }) {
  const help = () => byId("keys").showModal();
  const move = (by, options) => () => results.move(by, options);
  const actions = {
    "/": focusSearch, "?": help, j: move(1), k: move(-1), ArrowRight: move(1), ArrowLeft: move(-1),
    ArrowDown: move(1, { rows: true }), ArrowUp: move(-1, { rows: true }),
  };
  document.addEventListener("keydown", (event) => {
    const { target, key } = event;
    if (event.defaultPrevented || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog:modal") || !(key in actions)) return;
    const writing = target.matches("input:not([type=checkbox], [type=radio]), select, textarea");
    const fromBox = target === byId("text") && key === "ArrowDown";
    if (writing && !fromBox) return;
    const arrow = key.startsWith("Arrow");
    const choosing = target.matches("input, select, progress, [tabindex='0']");
    if (arrow && !fromBox && (choosing || byId("search-view").hidden)) return;
    if (arrow && !fromBox && !target.closest(".hit")) return; // the window scrolls as ever
    if (actions[key]() === false) {
      if (key === "ArrowUp") focusSearch();
      else return;
    }
    event.preventDefault();
  });
  byId("help").addEventListener("click", help);
  onLanguage(fill);
  fill();
}
