/** The documents that are indexed: find, open, download, reindex, delete. */

import { deleteDocument, listDocuments, reindexDocument } from "../lib/api.js";
import { announce, confirm, explain, toast } from "../lib/dialogs.js";
import { byId, el, iconButton } from "../lib/element.js";
import { formatDate, formatNumber, onLanguage, t } from "../lib/language.js";
import { documentName, fileBeside } from "../lib/naming.js";
import { download } from "../viewer/viewer.js";

const LISTED = 50;
const TYPING_S = 0.25;
const CHANGED_S = 1;
const STATUSES = {
  indexed: "statusIndexed", indexing: "statusIndexing", failed: "statusFailed", skipped: "statusSkipped",
  deleting: "statusDeleting",
};

/** `open(document)`: its first page; `only(document)`: search in it; `reindexing(job, label)`. */
export function createDocuments({ open, only, reindexing, counted }) {
  const place = byId("documents");
  let documents = null;
  let total = 0;
  let error = null;
  let loading = new AbortController();
  let timer = 0;

  function filters() {
    const names = ["q", "tag", "status", "conditions"];
    const [q, tag, status, filter] = names.map((name) => byId(`documents-${name}`).value.trim());
    return { q, tag, status, filter };
  }

  function filtered() {
    return Object.values(filters()).some(Boolean);
  }

  async function load({ more = false } = {}) {
    loading.abort();
    loading = new AbortController();
    const { signal } = loading;
    const offset = more ? documents.length : 0;
    const limit = more ? LISTED : Math.max(LISTED, Math.min(documents?.length ?? 0, 200));
    try {
      const answer = await listDocuments({ ...filters(), limit, offset }, signal);
      if (signal.aborted) return;
      documents = more ? [...documents, ...answer.documents] : answer.documents;
      ({ total } = answer);
      error = null;
      if (!filtered()) counted(total);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      error = problem;
    }
    show();
  }

  function loadSoon(seconds) {
    clearTimeout(timer);
    timer = setTimeout(load, seconds * 1000);
  }

  async function remove(document, row) {
    const sure = await confirm({
      title: t("deleteTitle"), text: t("deleteText", documentName(document), document.pages),
      action: t("delete"), danger: true,
    });
    if (!sure) return focusDelete(document.doc_id); // the list may have been redrawn meanwhile
    try {
      await deleteDocument(document);
    } catch (problem) {
      toast(`${explain(problem).title} ${explain(problem).text}`, { failed: true });
      return;
    }
    toast(t("deleted", documentName(document)));
    const next = row.nextElementSibling ?? row.previousElementSibling;
    const focused = next?.dataset.document;
    await load();
    focusDelete(focused);
  }

  /** Focus the delete button of a document, or what is above the list where it is not there. */
  function focusDelete(docId) {
    const row = [...place.querySelectorAll("tr")].find((other) => docId && other.dataset.document === docId);
    (row?.querySelector(".delete") ?? byId("documents-q")).focus();
  }

  async function reindex(document) {
    const sure = await confirm({
      title: t("reindexTitle"), text: t("reindexText", documentName(document)), action: t("reindex"),
    });
    if (!sure) return;
    try {
      const job = await reindexDocument(document);
      reindexing(job, t("reindexOf", documentName(document)));
      toast(t("reindexStarted", documentName(document)));
    } catch (problem) {
      toast(`${explain(problem).title} ${explain(problem).text}`, { failed: true });
    }
  }

  function rowOf(document) {
    const label = documentName(document);
    const pages = document.pages ?? 0;
    const openable = document.status === "indexed" && pages > 0;
    const title = openable
      ? el("button", { type: "button", class: "link", click: () => open(document) }, label)
      : el("span", {}, label);
    const row = el("tr", { "data-document": document.doc_id });
    const tag = (text) => el("li", {}, el("button", {
      type: "button", class: "tag", "aria-label": t("filterByTag", text), click: () => setTag(text),
    }, text));
    row.append(
      el("th", { scope: "row", class: "name" }, title,
        fileBeside(document) ? el("span", { class: "note" }, document.source) : null,
        document.error ? el("span", { class: "failed-text" }, document.error) : null),
      el("td", { class: "number" }, formatNumber(pages), el("span", { class: "unit" }, t("pagesUnit", pages))),
      el("td", {}, el("span", { class: `status ${document.status}` }, t(STATUSES[document.status] ?? "statusIndexing"))),
      el("td", {}, el("ul", { class: "tags" }, (document.tags ?? []).map(tag))),
      el("td", { class: "day" }, document.ingested_at ? formatDate(document.ingested_at) : ""),
      el("td", { class: "row-actions" },
        openable ? iconButton("search", t("searchInThis", label), () => only(document)) : null,
        iconButton("download", t("downloadThis", label), () => download(document)),
        iconButton("reindex", t("reindexThis", label), () => reindex(document)),
        iconButton("delete", t("deleteThis", label), () => remove(document, row), { class: "plain delete" })));
    return row;
  }

  function table() {
    const heads = ["document", "pages", "status", "tags", "added", "actions"];
    const head = heads.map((key) => el("th", { scope: "col", class: key }, t(key)));
    return el("table", { "aria-labelledby": "documents-title" },
      el("thead", {}, el("tr", {}, head)), el("tbody", {}, documents.map(rowOf)));
  }

  function hint(title, text, ...more) {
    return el("div", { class: "hint" }, el("h3", {}, title), el("p", {}, text), ...more);
  }

  function show() {
    byId("documents-count").textContent = documents && !error ? t("documentCount", total) : "";
    if (error) {
      const { title, text } = explain(error);
      const retry = el("button", { type: "button", class: "primary", click: () => load() }, t("retry"));
      place.replaceChildren(hint(title, text, retry));
    } else if (!documents) {
      place.replaceChildren(el("p", { class: "note" }, t("loading")));
    } else if (!documents.length) {
      place.replaceChildren(filtered()
        ? hint(t("noDocumentFound"), t("noDocumentFoundText"))
        : hint(t("empty"), t("emptyText"), el("p", {}, el("code", {}, "quire ingest ./pdfs"))));
    } else {
      const more = el("button", { type: "button", click: () => load({ more: true }) }, t("more"));
      const rest = documents.length < total ? el("div", { class: "actions" }, more) : "";
      keepingFocus(() => place.replaceChildren(table(), rest));
    }
  }

  /** A list that is redrawn under a person's hands leaves the focus where it was. */
  function keepingFocus(draw) {
    const label = place.contains(document.activeElement) ? document.activeElement.ariaLabel : null;
    draw();
    const same = [...place.querySelectorAll("button")].find((button) => label && button.ariaLabel === label);
    same?.focus();
  }

  function setTag(tag) {
    byId("documents-tag").value = tag;
    load().then(() => announce(t("documentCount", total)));
  }

  byId("documents-filter").addEventListener("submit", (event) => event.preventDefault());
  for (const input of ["q", "tag", "status"]) {
    byId(`documents-${input}`).addEventListener("input", () => loadSoon(TYPING_S));
  }
  byId("documents-conditions").addEventListener("change", () => load()); // half of it is no JSON
  onLanguage(show);

  return { load, show, changed: () => loadSoon(CHANGED_S) };
}
