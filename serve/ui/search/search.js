/** Runs one search at a time: a new one ends the last; an overloaded server is asked again later. */

import { ApiError, askAgain, search as ask } from "../lib/api.js";
import { toast, explain } from "../lib/dialogs.js";

const TOP_K = 10;
const MORE = 10;
const MOST = 50;
const PATIENCE_MS = 250;
const RETRIES = 5; // by itself; after that a person decides

/** `remember(query)`: called once for each new search, to put it into the address. */
export function createSearch({ form, filters, results, remember, count }) {
  let running = new AbortController();
  let timer = 0;
  let showLoading = 0;
  let topK = TOP_K;
  let retries = 0;

  function stop() {
    running.abort();
    clearInterval(timer);
    clearTimeout(showLoading);
    running = new AbortController();
  }

  function toRequest(query) {
    const request = { ...filters.toRequest(), top_k: topK };
    if (query.text) request.text = query.text;
    if (query.mode) request.mode = query.mode;
    if (query.rerank) request.rerank = query.rerank;
    const { sort } = filters.value();
    if (sort) request.sort = sort;
    return request;
  }

  /** Seconds until the next try, shown as they pass. */
  function retryLater(error) {
    let left = Math.ceil(error.retryAfterS);
    results.set("error", { error, left });
    timer = setInterval(() => {
      left -= 1;
      if (left > 0) return results.countDown(left);
      retries += 1;
      return perform();
    }, 1000);
  }

  async function fail(error) {
    clearTimeout(showLoading);
    if (error.name === "AbortError") return;
    if (!(error instanceof ApiError)) throw error;
    filters.refused(error);
    if (error.status === 503 && retries < RETRIES) retryLater(error);
    else results.set("error", { error, left: 0 });
  }

  async function perform({ keep = false } = {}) {
    stop();
    const { signal } = running;
    const query = form.value();
    if (!query.text && !query.image) return results.set("start", { count: count() });
    if (!query.text && query.mode === "text") return results.set("needsText");
    const wait = results.kind === "hits" ? PATIENCE_MS : 0; // no flicker where the answer is quick
    if (!keep) showLoading = setTimeout(() => results.set("loading"), wait);
    try {
      const answer = await ask(toRequest(query), query.image, signal);
      clearTimeout(showLoading);
      if (signal.aborted) return;
      retries = 0;
      form.showUsed(answer);
      answer.hits.forEach(filters.learn);
      const exhausted = answer.hits.length < topK || topK >= MOST;
      if (answer.hits.length) results.set("hits", { answer, exhausted });
      else results.set("none", { filtered: filters.any(), count: count() });
    } catch (error) {
      if (!keep || error.name === "AbortError") return await fail(error);
      toast(explain(error).title, { failed: true });
    }
  }

  return {
    /** `quietly`: a switch was turned, so nothing happens where there is no query yet. */
    run({ quietly = false } = {}) {
      topK = TOP_K;
      retries = 0;
      const { text, image } = form.value();
      remember();
      if (quietly && !text && !image && results.kind === "start") return Promise.resolve();
      return perform();
    },
    /** The same search, as after back or reload: the address is as it should be. */
    again() {
      topK = TOP_K;
      retries = 0;
      return perform();
    },
    retry() {
      askAgain();
      retries = 0;
      return perform();
    },
    stop() {
      stop();
      results.set("error", { error: new ApiError(503, "overloaded", ""), left: 0 });
    },
    async more() {
      const shown = results.hits().length;
      topK = Math.min(topK + MORE, MOST);
      await perform({ keep: true });
      results.focusPage(results.hits()[shown]?.page_id);
    },
  };
}
