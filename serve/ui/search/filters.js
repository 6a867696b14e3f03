/** Filters by document, tag, date, expected OCR errors and conditions, and the order: a panel, and chips. */

import { createConditions } from "./conditions.js";
import { getDocument, listDocuments } from "../lib/api.js";
import { explain } from "../lib/dialogs.js";
import { byId, el, icon } from "../lib/element.js";
import { onLanguage, t } from "../lib/language.js";
import { documentName } from "../lib/naming.js";

const LISTED = 100;
const TYPING_S = 0.25;
const FIELDS = ["after", "before", "cer", "sort", "conditions"]; // one value each

/** A day's first moment where the person is, as UTC; `days` later. */
function startOf(day, days = 0) {
  const date = new Date(`${day}T00:00:00`);
  if (Number.isNaN(date.getTime())) return null;
  date.setDate(date.getDate() + days);
  return date.toISOString();
}

/** Calls `search()` when a filter changes. */
export function createFilters({ search }) {
  const panel = byId("filter-panel");
  const toggle = byId("filter-toggle");
  const names = new Map(); // doc_id → what it is called
  const knownTags = new Set();
  const conditions = createConditions({ changed: () => change() });
  let tags = [];
  let documents = [];
  let listed = [];
  let typing = 0;

  function change() {
    show();
    search({ quietly: true });
  }

  function flip(list, value) {
    return list.includes(value) ? list.filter((other) => other !== value) : [...list, value];
  }

  function chip(text, label, remove) {
    const button = el("button", { type: "button", class: "chip", "aria-label": label, click: remove });
    button.append(el("span", {}, text), icon("close"));
    return el("li", {}, button);
  }

  function showChips() {
    const chips = tags.map((tag) =>
      chip(`# ${tag}`, t("removeFilter", tag), () => setTags(flip(tags, tag))));
    for (const docId of documents) {
      const name = names.get(docId) ?? docId.slice(0, 8);
      chips.push(chip(name, t("removeFilter", name), () => setDocuments(flip(documents, docId))));
    }
    for (const name of FIELDS) {
      const input = byId(`filter-${name}`);
      if (!input.value) continue;
      const text = chipText(name, input);
      const remove = () => {
        input.value = "";
        change();
      };
      chips.push(chip(text, t("removeFilter", text), remove));
    }
    byId("chips").replaceChildren(...chips);
    byId("chips").hidden = chips.length === 0;
  }

  function chipText(name, input) {
    if (name === "cer") return t("cerChip", input.value);
    if (name === "conditions") return input.value;
    if (name === "sort") return input.selectedOptions[0].textContent;
    return `${t(name)} ${input.value}`;
  }

  function choice(text, checked, flipped, title = text) {
    const box = el("input", { type: "checkbox", change: flipped });
    box.checked = checked;
    return el("li", {}, el("label", { title }, box, el("span", {}, text)));
  }

  function showChoices() {
    const wanted = [...new Set([...tags, ...knownTags])].sort();
    byId("filter-tags").replaceChildren(...wanted.map((tag) =>
      choice(tag, tags.includes(tag), () => setTags(flip(tags, tag)))));
    byId("filter-documents").replaceChildren(...listed.map((document) =>
      choice(documentName(document), documents.includes(document.doc_id),
        () => setDocuments(flip(documents, document.doc_id)), document.source)));
    if (!listed.length) {
      byId("filter-documents").append(el("li", { class: "note" }, t("noDocumentFound")));
    }
  }

  function show() {
    showChips();
    if (!panel.hidden) showChoices();
  }

  function setTags(wanted) {
    tags = wanted;
    change();
  }

  function setDocuments(wanted) {
    documents = wanted;
    change();
  }

  function learn(document) {
    names.set(document.doc_id, documentName(document));
    for (const tag of document.tags) knownTags.add(tag);
    conditions.learn(document);
  }

  async function list() {
    try {
      const q = byId("filter-document").value.trim();
      listed = (await listDocuments({ q, limit: LISTED })).documents;
      listed.forEach(learn);
      show();
    } catch (error) {
      const { title } = explain(error);
      byId("filter-documents").replaceChildren(el("li", { class: "note" }, title));
    }
  }

  async function nameUnknown() {
    for (const docId of documents.filter((id) => !names.has(id))) {
      try {
        learn(await getDocument({ doc_id: docId }));
      } catch {
        names.set(docId, docId.slice(0, 8)); // gone: its id is what is left of it
      }
    }
    showChips();
  }

  toggle.addEventListener("click", () => {
    panel.hidden = !panel.hidden;
    toggle.setAttribute("aria-expanded", String(!panel.hidden));
    if (panel.hidden) return;
    byId("filter-document").focus();
    list();
  });
  panel.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    toggle.click();
    toggle.focus();
  });
  byId("filter-document").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(list, TYPING_S * 1000);
  });
  byId("filter-tag-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const tag = byId("filter-tag").value.trim();
    byId("filter-tag").value = "";
    if (tag && !tags.includes(tag)) setTags([...tags, tag]);
  });
  for (const name of FIELDS) byId(`filter-${name}`).addEventListener("change", change);

  function clear() {
    tags = [];
    documents = [];
    for (const name of FIELDS) byId(`filter-${name}`).value = "";
  }

  byId("filter-clear").addEventListener("click", () => {
    clear();
    change();
  });
  onLanguage(show);

  return {
    learn,
    value: () => ({
      tags, documents, ...Object.fromEntries(FIELDS.map((name) => [name, byId(`filter-${name}`).value])),
    }),
    any: () => byId("chips").childElementCount > 0,
    clear: () => byId("filter-clear").click(),
    refused: conditions.refused,
    addTag: (tag) => tags.includes(tag) || setTags([...tags, tag]),
    /** Only this document, its name known. */
    only(docId, name) {
      names.set(docId, name);
      setDocuments([docId]);
    },
    restore(place) {
      clear();
      ({ tags, documents } = place);
      for (const name of FIELDS) byId(`filter-${name}`).value = place[name];
      show();
      nameUnknown();
    },
    /** As a search wants them; `before` includes its day. Throws an ApiError. */
    toRequest() {
      const { after, before, cer } = this.value();
      const filters = {
        tags, doc_ids: documents,
        after: after ? startOf(after) : null, before: before ? startOf(before, 1) : null,
        max_cer: cer === "" ? null : Math.min(100, Math.max(0, Number(cer))) / 100,
      };
      return { filters, filter: conditions.read() };
    },
  };
}
