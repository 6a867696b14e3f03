/** The page: puts its parts together and goes where the address says. */

import { getReadiness, listDocuments, listModels, onKeyNeeded } from "./lib/api.js";
import { goTo, readAddress, toAddress } from "./lib/address.js";
import { askKey, explain } from "./lib/dialogs.js";
import { createDocuments } from "./documents/documents.js";
import { createDrop } from "./documents/drop.js";
import { byId } from "./lib/element.js";
import { createFilters } from "./search/filters.js";
import { createJobs } from "./documents/jobs.js";
import { createKeys } from "./lib/keys.js";
import { createLanguageSwitch, onLanguage, t } from "./lib/language.js";
import { documentName } from "./lib/naming.js";
import { createQueryForm } from "./search/query.js";
import { createResults } from "./search/results.js";
import { createSearch } from "./search/search.js";
import { createThemeSwitch } from "./lib/theme.js";
import { createViewer } from "./viewer/viewer.js";

const READY_S = 5;
const LONGEST_Q = 800; // of the words to mark in a page, as its route takes them

const images = []; // screenshots of this visit, by the number that history keeps
let count = null; // documents indexed, once known
let lastQuery = { ...readAddress(), view: "", page: "", tenant: "" }; // the search behind the documents
let notice = null;

createLanguageSwitch();
createThemeSwitch({ t, onLanguage });
onKeyNeeded(askKey);

const form = createQueryForm({ search: (options) => search.run(options) });
const filters = createFilters({ search: (options) => search.run(options) });

const results = createResults({
  open: (hit) => openPage(hit.page_id, hit),
  addTag: filters.addTag,
  onlyDocument: filters.only,
  addressOf: (hit) => toAddress({ ...place(), page: hit.page_id, tenant: hit.tenant }),
  more: () => search.more(),
  retry() {
    search.retry();
    learnServer();
  },
  stop: () => search.stop(),
  clearFilters: filters.clear,
  showDocuments: () => showView("documents"),
});

const search = createSearch({ form, filters, results, remember, count: () => count });

const viewer = createViewer({
  similar: askWithImage,
  neighbour(pageId, by) {
    const hits = results.hits();
    return hits[hits.findIndex((hit) => hit.page_id === pageId) + by];
  },
  moved(page, { replace }) {
    const here = readAddress();
    if (here.page === page.page_id) return;
    const wanted = { ...here, page: page.page_id, tenant: page.tenant };
    goTo(wanted, { replace, state: replace ? history.state : { ...history.state, opened: true } });
  },
  closed(page) {
    results.focusPage(page.page_id);
    if (!readAddress().page) return; // closed by going back
    if (history.state?.opened) history.back();
    else goTo({ ...readAddress(), page: "", tenant: "" }, { replace: true, state: history.state });
  },
});

const jobs = createJobs({
  changed: () => documents.changed(),
  running(number) {
    byId("running").hidden = number === 0;
    byId("running").textContent = number;
    byId("running").title = t("jobsRunning", number);
  },
});

const documents = createDocuments({
  open: (document) => openPage(`${document.doc_id}:1`, { tenant: document.tenant, q: "" }),
  only(document) {
    showView("search");
    filters.only(document.doc_id, documentName(document));
    form.focus();
  },
  reindexing: (job, label) => jobs.follow(job, label),
  counted(total) {
    count = total;
    if (results.kind === "start") results.set("start", { count });
  },
});

function place() {
  const { text, mode, rerank } = form.value();
  return { text, mode, rerank, ...filters.value() };
}

/** Put the search into the address; its screenshot stays here, under a number. */
function remember() {
  const { image } = form.value();
  if (image && !images.includes(image)) images.push(image);
  goTo(place(), { state: image ? { image: images.indexOf(image) } : null });
  lastQuery = readAddress();
  title();
}

function openPage(pageId, { tenant = "", scores = null, q = form.value().text } = {}) {
  viewer.show(pageId, { tenant, q: q.slice(0, LONGEST_Q), scores });
}

function askWithImage(file) {
  viewer.close();
  for (const dialog of document.querySelectorAll("dialog:modal")) dialog.close();
  showView("search", { silently: true });
  form.setImage(file);
}

function upload(files) {
  viewer.close();
  showView("documents");
  jobs.upload(files);
}

function title() {
  const { text, view } = readAddress();
  const what = view === "documents" ? t("documents") : text;
  document.title = what ? `${what} · Quire` : "Quire";
}

function showView(view, { silently = false } = {}) {
  const isDocuments = view === "documents";
  byId("search-view").hidden = isDocuments;
  byId("documents-view").hidden = !isDocuments;
  for (const [id, current] of [["to-search", !isDocuments], ["to-documents", isDocuments]]) {
    if (current) byId(id).setAttribute("aria-current", "page");
    else byId(id).removeAttribute("aria-current");
  }
  if (!silently) {
    const { image } = form.value();
    goTo(isDocuments ? { view } : lastQuery, { state: !isDocuments && image ? { image: images.indexOf(image) } : null });
  }
  if (isDocuments) documents.load();
  title();
}

/** Show what the address says, as after a reload, back, or forward. */
function restore() {
  const there = readAddress();
  const { image: number, opened } = history.state ?? {};
  const image = images[number] ?? null;
  showView(there.view, { silently: true });
  if (there.view !== "documents") {
    const same = toAddress({ ...there, page: "", tenant: "" }) === toAddress({ ...place(), view: "" })
      && image === form.value().image && results.kind !== "start";
    lastQuery = { ...there, page: "", tenant: "" };
    if (!same) {
      form.restore({ ...there, image });
      filters.restore(there);
      search.again();
    }
  }
  if (!there.page) viewer.close();
  else if (!opened || !viewer.isOpen()) openPage(there.page, { tenant: there.tenant, q: there.text });
}

function link(id, go) {
  byId(id).addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a tab of its own
    event.preventDefault();
    go();
  });
}

function startOver() {
  goTo({});
  restore();
  form.focus();
}

function showNotice() {
  byId("notice").hidden = !notice;
  byId("notice").textContent = notice ? t("notReady", notice) : "";
}

/** Say what is not ready, and look again until it is. */
async function watchReadiness() {
  try {
    const { ready, checks } = await getReadiness();
    const wrong = Object.entries(checks ?? {}).filter(([, state]) => state !== "ok");
    notice = ready ? null : wrong.map(([name, state]) => `${name}: ${state}`).join("; ") || "…";
  } catch (error) {
    notice = explain(error).title;
  }
  showNotice();
  if (notice) setTimeout(watchReadiness, READY_S * 1000);
}

async function learnServer() {
  try {
    const models = (await listModels()).data;
    form.setKinds(new Set(models.filter(({ served }) => served).map(({ kind }) => kind)));
    count = (await listDocuments({ limit: 1 })).total;
    if (results.kind === "start") results.set("start", { count });
  } catch (error) {
    if (results.kind === "start") results.set("error", { error, left: 0 });
  }
}

link("home", startOver);
link("to-search", () => showView("search"));
link("to-documents", () => showView("documents"));
byId("choose-files").addEventListener("click", () => byId("upload-files").click());
byId("upload-files").addEventListener("change", ({ target }) => {
  jobs.upload([...target.files]);
  target.value = "";
});
byId("upload").addEventListener("submit", (event) => event.preventDefault());
createDrop({ query: askWithImage, upload });
createKeys({
  results,
  focusSearch() {
    if (byId("search-view").hidden) showView("search");
    form.focus();
  },
});
onLanguage(() => {
  title();
  showNotice();
});
addEventListener("popstate", restore);

restore();
jobs.resume();
watchReadiness();
learnServer();
