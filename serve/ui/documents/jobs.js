/** Uploads and reindexing as they go on, each with its progress and what came of each file. */

import { addDocuments, cancelJob } from "../lib/api.js";
import { announce, explain, toast } from "../lib/dialogs.js";
import { byId, el, icon, iconButton } from "../lib/element.js";
import { follow } from "./events.js";
import { onLanguage, t } from "../lib/language.js";

const STORED = "quire-jobs"; // running ones, so that a reload picks them up again
const ENDED = ["succeeded", "failed", "cancelled", "lost"];
const MOST_FILES = 50; // in one upload; more become several jobs
const MOST_BYTES = 200 * 1024 ** 2;

function isDocument(file) {
  return /\.(pdf|png|jpe?g|tiff?|webp)$/i.test(file.name) || file.type === "application/pdf";
}

/** Files in their order, in uploads that a server takes; a file too big for one goes alone. */
function toUploads(files) {
  const uploads = [];
  let bytes = Infinity;
  for (const file of files) {
    bytes += file.size;
    if (bytes > MOST_BYTES || uploads.at(-1).length === MOST_FILES) {
      uploads.push([]);
      bytes = file.size;
    }
    uploads.at(-1).push(file);
  }
  return uploads;
}

/** `changed()`: documents came or changed; `running(n)`: jobs not yet ended. */
export function createJobs({ changed, running }) {
  const list = byId("jobs");
  const rows = new Map(); // row id → {label, job, node}
  let rowCount = 0;

  function store() {
    const kept = [...rows.values()].filter(({ job }) => job.job_id && !ENDED.includes(job.status));
    sessionStorage.setItem(STORED, JSON.stringify(kept.map(({ label, job }) => [job.job_id, label])));
    running([...rows.values()].filter(({ job }) => !ENDED.includes(job.status)).length);
  }

  function addRow(label, job) {
    rowCount += 1;
    const row = { id: rowCount, label, job, node: el("li", { class: "job" }) };
    rows.set(row.id, row);
    list.prepend(row.node);
    show(row);
    store();
    return row;
  }

  function dismiss(row) {
    rows.delete(row.id);
    row.node.remove();
    byId("choose-files").focus();
  }

  function update(row, job) {
    const before = row.job;
    row.job = job;
    show(row);
    store();
    const done = job.progress?.documents_done ?? 0;
    const ended = ENDED.includes(job.status) && !ENDED.includes(before.status);
    if (ended || done !== (before.progress?.documents_done ?? 0)) changed();
    if (ended) announce(`${row.label}: ${summary(job)}`);
  }

  function summary(job) {
    if (job.status === "cancelled") return t("jobCancelled");
    if (job.status === "succeeded") return t("jobSucceeded", countStates(job));
    if (ENDED.includes(job.status)) return t("jobFailed");
    const { pages = 0, pages_done = 0, documents = 0, documents_done = 0, failures = 0 } = job.progress ?? {};
    if (job.status === "sending") return t("jobSending");
    if (job.status === "queued" || !(pages || documents_done)) return t("jobQueued");
    return t("jobProgress", { pages, pages_done, documents, documents_done, failures });
  }

  function countStates(job) {
    const counts = { indexed: 0, updated: 0, unchanged: 0, skipped: 0, failed: 0 };
    for (const { state } of job.documents ?? []) counts[state] = (counts[state] ?? 0) + 1;
    return counts;
  }

  function bar(job) {
    const { pages = 0, pages_done = 0 } = job.progress ?? {};
    const progress = el("progress", { "aria-label": t("progress") });
    if (pages > 0) {
      progress.max = pages;
      progress.value = Math.min(pages_done, pages);
    }
    return progress;
  }

  function reportLine({ source, state, reason, message }) {
    const well = ["indexed", "updated", "unchanged"].includes(state);
    const why = message || (reason ? reason.replaceAll("_", " ") : "");
    return el("li", { class: `report ${state}`, "data-state": state },
      icon(well ? "done" : "warning"),
      el("span", { class: "report-name" }, source),
      el("span", { class: "report-state" }, t(`file_${state}`)),
      why ? el("span", { class: "report-why" }, why) : null);
  }

  function show(row) {
    const { job, node } = row;
    const ended = ENDED.includes(job.status);
    const order = ["failed", "skipped", "indexed", "updated", "unchanged"];
    const report = [...(job.documents ?? [])].sort((a, b) => order.indexOf(a.state) - order.indexOf(b.state));
    const wasOpen = node.querySelector("details")?.open ?? true;
    node.dataset.status = job.status;
    node.classList.toggle("mixed", report.some(({ state }) => state === "failed" || state === "skipped"));
    node.replaceChildren(
      el("div", { class: "job-head" },
        el("b", { class: "job-name" }, row.label),
        el("span", { class: "job-summary" }, summary(job)),
        !ended && job.job_id ? iconButton("close", t("stopJob"), () => stop(row)) : null,
        ended && row.again ? el("button", { type: "button", click: row.again }, t("retry")) : null,
        ended ? iconButton("close", t("dismiss"), () => dismiss(row)) : null),
      ...(ended ? [] : [bar(job)]),
      ...(row.sameName ?? []).map(({ name }) => el("p", { class: "note" }, t("sameName", name))),
      ...(job.error ? [el("p", { class: "failed-text" }, job.error)] : []),
      ...(report.length
        ? [el("details", { open: wasOpen }, el("summary", {}, t("report", report.length)),
          el("ul", { class: "reports" }, report.map(reportLine)))]
        : []));
  }

  async function send(row, files) {
    row.tags ??= byId("upload-tags").value.trim();
    try {
      const job = await addDocuments(files, row.tags);
      row.again = null;
      row.sameName = job.same_name ?? [];
      update(row, { ...job, progress: {} });
    } catch (error) {
      const { title, text } = explain(error);
      row.again = () => {
        update(row, { status: "sending" });
        send(row, files);
      };
      update(row, { status: "failed", error: `${title}. ${text}` });
      return;
    }
    watch(row);
  }

  async function stop(row) {
    try {
      await cancelJob(row.job.job_id);
    } catch (error) {
      const { title, text } = explain(error);
      toast(`${title}. ${text}`, { failed: true });
    }
  }

  async function watch(row) {
    try {
      await follow(row.job.job_id, (job) => update(row, job));
    } catch (error) {
      const { title, text } = explain(error);
      const reason = error.status === 404 ? t("jobLost") : `${title}. ${text}`;
      update(row, { ...row.job, status: "lost", error: reason });
    }
  }

  onLanguage(() => rows.forEach(show));
  addEventListener("beforeunload", (event) => {
    if ([...rows.values()].some(({ job }) => job.status === "sending")) event.preventDefault();
  });

  return {
    /** Send files, one upload after the other; what is no document is left out and said so. */
    async upload(files) {
      const others = files.filter((file) => !isDocument(file)).map(({ name }) => name);
      if (others.length) toast(t("notDocument", others), { failed: true });
      const uploads = toUploads(files.filter(isDocument)).map((batch) => {
        const label = batch.length === 1 ? batch[0].name : t("fileCount", batch.length);
        return [addRow(label, { status: "sending" }), batch];
      });
      for (const [row, batch] of uploads) await send(row, batch);
    },
    /** Follow a job that the server has already begun. */
    follow: (job, label) => watch(addRow(label, job)),
    /** Jobs that were running before a reload. */
    resume() {
      const kept = JSON.parse(sessionStorage.getItem(STORED) ?? "[]");
      for (const [job_id, label] of kept) watch(addRow(label, { job_id, status: "queued" }));
    },
  };
}
