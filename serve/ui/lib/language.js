/** The language of the page: every string a person reads comes through `t`. */

import { byId } from "./element.js";
import en from "./strings.en.js";
import ja from "./strings.ja.js";

const LANGUAGES = { en, ja };
const STORED = "quire-language";
const listeners = [];
let language = initial();

function initial() {
  const wanted = [localStorage.getItem(STORED), ...navigator.languages].filter(Boolean);
  const known = wanted.map((tag) => tag.slice(0, 2)).find((tag) => tag in LANGUAGES);
  return known ?? "en";
}

/** The string of that name; strings with parts are functions of them. */
export function t(name, ...parts) {
  const string = LANGUAGES[language][name];
  if (string === undefined) throw new Error(`No string ${name}`);
  return typeof string === "function" ? string(...parts) : string;
}

export function onLanguage(listener) {
  listeners.push(listener);
}

export function formatDate(iso) {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return "";
  return new Intl.DateTimeFormat(language, { dateStyle: "medium" }).format(date);
}

export function formatNumber(number, options = {}) {
  return new Intl.NumberFormat(language, options).format(number);
}

/** Fill in the strings that index.html names. */
export function translate(root = document) {
  document.documentElement.lang = language;
  for (const node of root.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of root.querySelectorAll("[data-t-title]")) node.title = t(node.dataset.tTitle);
  for (const node of root.querySelectorAll("[data-t-placeholder]")) {
    node.placeholder = t(node.dataset.tPlaceholder);
  }
  for (const node of root.querySelectorAll("[data-t-label]")) {
    const label = t(node.dataset.tLabel);
    node.setAttribute("aria-label", label);
    if (node.tagName === "BUTTON") node.title = label;
  }
}

export function createLanguageSwitch() {
  const select = byId("language");
  select.value = language;
  select.addEventListener("change", () => {
    language = select.value;
    localStorage.setItem(STORED, language);
    translate();
    for (const listener of listeners) listener();
  });
  translate();
}
