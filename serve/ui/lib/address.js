/** What is on the page, as its address has it, so that back, reload and a copied link work. */

const LISTS = { tags: "tag", documents: "doc" };
const SINGLES = {
  text: "q", mode: "mode", rerank: "rerank", after: "after", before: "before", cer: "cer", sort: "sort",
  conditions: "filter",
  page: "page", tenant: "tenant", view: "view",
};

/** {view, page, tenant, text, mode, rerank, tags, documents: [doc_id], after, before, cer, sort, conditions} */
export function readAddress() {
  const parameters = new URLSearchParams(location.search);
  const place = {};
  for (const [name, short] of Object.entries(SINGLES)) place[name] = parameters.get(short) ?? "";
  for (const [name, short] of Object.entries(LISTS)) place[name] = parameters.getAll(short);
  return place;
}

export function toAddress(place) {
  const parameters = new URLSearchParams();
  for (const [name, short] of Object.entries(SINGLES)) {
    if (place[name]) parameters.set(short, place[name]);
  }
  for (const [name, short] of Object.entries(LISTS)) {
    for (const value of place[name] ?? []) parameters.append(short, value);
  }
  const search = parameters.toString();
  return search ? `?${search}` : location.pathname;
}

/** Go there; a place that is already shown is not pushed again. */
export function goTo(place, { replace = false, state = null } = {}) {
  const address = toAddress(place);
  const same = address === (location.search || location.pathname);
  const method = replace || (same && state?.image === history.state?.image);
  history[method ? "replaceState" : "pushState"](state, "", address);
}
