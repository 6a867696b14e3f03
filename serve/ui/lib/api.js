/** The server's routes. Everything that goes wrong is an ApiError. */

const BASE = new URL("../../", import.meta.url);
const STORED = "quire-key"; // in sessionStorage: gone with the tab
const RETRY_AFTER_S = 5; // where the server does not say

let key = sessionStorage.getItem(STORED) ?? "";
let declined = false;
let asking = null;
let ask = async () => null;

/** `status` 0 and `type` "offline": the server did not answer at all. */
export class ApiError extends Error {
  constructor(status, type, message, { retryAfterS = 0 } = {}) {
    super(message);
    this.status = status;
    this.type = type;
    this.retryAfterS = retryAfterS;
  }
}

/** Who asks a person for a key: `async (refused) => key or null`. */
export function onKeyNeeded(asker) {
  ask = asker;
}

/** Let the next 401 ask for a key again after a person said no. */
export function askAgain() {
  declined = false;
}

async function newKey(refused) {
  asking ??= ask(refused).finally(() => (asking = null));
  const given = await asking;
  declined = given === null;
  if (given === null) return false;
  key = given;
  sessionStorage.setItem(STORED, key);
  return true;
}

async function send(path, { method = "GET", headers = {}, body, signal } = {}) {
  const authorization = key ? { Authorization: `Bearer ${key}` } : {};
  try {
    return await fetch(new URL(path.replace(/^\//, ""), BASE), {
      method, body, signal, headers: { ...authorization, ...headers },
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "offline", "");
  }
}

async function toError(response) {
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch {
    // Not the server's own words, perhaps a proxy's: the status has to do.
  }
  const retryAfterS = Number(response.headers.get("Retry-After")) || RETRY_AFTER_S;
  const message = error.message ?? response.statusText;
  return new ApiError(response.status, error.type ?? "internal", message, { retryAfterS });
}

/** A response that is no error; asks for the key as often as it is refused. */
export async function call(path, options = {}) {
  for (;;) {
    const used = key;
    const response = await send(path, options);
    if (response.ok) return response;
    if (response.status !== 401 || declined) throw await toError(response);
    if (key === used && !(await newKey(used !== ""))) throw await toError(response);
  }
}

async function getJson(path, options) {
  const response = await call(path, options);
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(response.status, "internal", ""); // cut off, or a proxy's page
  }
}

function parameters(values) {
  const given = Object.entries(values).filter(([, value]) => value !== "" && value !== undefined);
  return new URLSearchParams(given);
}

/** A search; the image goes as a file beside the request, so it is not blown up to base64. */
export async function search(request, image, signal) {
  const json = JSON.stringify(request);
  if (!image) {
    const headers = { "Content-Type": "application/json" };
    return getJson("v1/search", { method: "POST", headers, body: json, signal });
  }
  const form = new FormData();
  form.append("request", json);
  form.append("image", image, image.name || "screenshot.png");
  return getJson("v1/search", { method: "POST", body: form, signal });
}

export function getPage(pageId, { tenant = "", q = "", signal } = {}) {
  return getJson(`v1/pages/${encodeURIComponent(pageId)}?${parameters({ tenant, q })}`, { signal });
}

/** Where on a page the words of a query are. */
export function getEvidence(pageId, { tenant = "", q, signal }) {
  return getJson(`v1/pages/${encodeURIComponent(pageId)}/evidence?${parameters({ tenant, q })}`, { signal });
}

/** What makes a page hard to read for OCR. */
export function getQuality(pageId, { tenant = "", signal }) {
  return getJson(`v1/pages/${encodeURIComponent(pageId)}/quality?${parameters({ tenant })}`, { signal });
}

/** Bytes of a page's image; `url` as a hit or a page gives it. */
export async function getImage(url, widthPx, signal) {
  const path = `${url}${url.includes("?") ? "&" : "?"}width=${widthPx}`;
  return (await call(path, { signal })).blob();
}

export function imageUrl(pageId, tenant = "") {
  return `v1/pages/${encodeURIComponent(pageId)}/image?${new URLSearchParams({ tenant })}`;
}

export function listDocuments(filters, signal) {
  return getJson(`v1/documents?${parameters(filters)}`, { signal });
}

function documentPath(document, rest = "") {
  const tenant = parameters({ tenant: document.tenant ?? "" });
  return `v1/documents/${encodeURIComponent(document.doc_id)}${rest}?${tenant}`;
}

export function getDocument(document) {
  return getJson(documentPath(document));
}

export async function getOriginal(document) {
  return (await call(documentPath(document, "/original"))).blob();
}

export function deleteDocument(document) {
  return getJson(documentPath(document), { method: "DELETE" });
}

export function reindexDocument(document) {
  return getJson(documentPath(document, "/reindex"), { method: "POST" });
}

export function addDocuments(files, tags) {
  const form = new FormData();
  for (const file of files) form.append("files", file, file.name);
  if (tags) form.append("tags", tags);
  return getJson("v1/documents", { method: "POST", body: form });
}

export function getJob(jobId) {
  return getJson(`v1/jobs/${encodeURIComponent(jobId)}`);
}

export function cancelJob(jobId) {
  return getJson(`v1/jobs/${encodeURIComponent(jobId)}`, { method: "DELETE" });
}

export function listModels() {
  return getJson("v1/models");
}

/** What `/readyz` says, ready or not. */
export async function getReadiness() {
  const response = await send("readyz");
  try {
    return { ready: response.ok, ...(await response.json()) };
  } catch {
    return { ready: response.ok, checks: {} };
  }
}
