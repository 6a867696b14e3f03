/** A job's progress as the server streams it, and by asking again where a stream is one too many. */

import { ApiError, call, getJob } from "../lib/api.js";

const STREAMS = 3; // HTTP/1.1 gives a page six connections; images and searches need some
const POLL_S = 1.5;
const LONGEST_WAIT_S = 15;
const ENDED = ["succeeded", "failed", "cancelled"];

let streams = 0;

function pause(seconds) {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}

/** Events of a stream of `text/event-stream`: {event, id, data}. */
async function* eventsOf(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    waiting = (waiting + decoder.decode(value, { stream: true })).replaceAll("\r\n", "\n");
    const blocks = waiting.split("\n\n");
    waiting = blocks.pop();
    for (const block of blocks) yield toEvent(block);
  }
}

function toEvent(block) {
  const event = { event: "message", id: "", data: "" };
  for (const line of block.split("\n")) {
    const [, field, value] = /^(event|id|data): ?(.*)$/.exec(line) ?? [];
    if (field === "data") event.data += event.data ? `\n${value}` : value;
    else if (field) event[field] = value;
  }
  return event;
}

/** Calls `show(job)` until the job has ended; throws ApiError where the server knows no such job. */
export async function follow(jobId, show) {
  let lastId = "";
  let failures = 0;
  for (;;) {
    try {
      if (streams >= STREAMS) {
        const job = await getJob(jobId);
        show(job);
        if (ENDED.includes(job.status)) return;
        await pause(POLL_S);
        continue;
      }
      const resume = lastId ? { "Last-Event-ID": lastId } : {};
      const headers = { Accept: "text/event-stream", ...resume };
      streams += 1;
      try {
        const response = await call(`v1/jobs/${encodeURIComponent(jobId)}/events`, { headers });
        for await (const { event, id, data } of eventsOf(response.body)) {
          if (id) lastId = id;
          if (!data) continue;
          failures = 0;
          show(JSON.parse(data));
          if (ENDED.includes(event)) return;
        }
      } finally {
        streams -= 1;
      }
    } catch (error) {
      if (error instanceof ApiError && [401, 403, 404].includes(error.status)) throw error;
    }
    failures += 1;
    await pause(Math.min(2 ** failures / 2, LONGEST_WAIT_S));
  }
}
