/** What is dropped or pasted anywhere: a screenshot asks, PDFs are indexed. */

import { byId } from "../lib/element.js";
import { t } from "../lib/language.js";
import { toast } from "../lib/dialogs.js";

const LINGER_S = 0.2; // dragover comes about every 50 ms; when it stops, the drag has left

function kindOf(items) {
  const types = [...items].filter(({ kind }) => kind === "file").map(({ type }) => type);
  if (!types.length) return "";
  const images = types.filter((type) => type.startsWith("image/"));
  return images.length === types.length ? "image" : "pdf";
}

/** Every file under what was dropped; folders are gone through. */
async function filesUnder(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const files = [];
  for (;;) {
    const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!entries.length) return files;
    for (const inner of entries) files.push(...(await filesUnder(inner)));
  }
}

async function filesOf(transfer) {
  const loose = [...transfer.files]; // read before the first await: the transfer is emptied after it
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some(({ isDirectory }) => isDirectory)) return loose;
  return (await Promise.all(entries.map(filesUnder))).flat();
}

/** `query(file)` for an image, `upload(files)` for documents. */
export function createDrop({ query, upload }) {
  const overlay = byId("drop");
  let timer = 0;

  function hide() {
    clearTimeout(timer);
    overlay.hidePopover();
  }

  document.addEventListener("dragover", (event) => {
    const kind = kindOf(event.dataTransfer.items);
    if (!kind) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    byId("drop-text").textContent = t(kind === "image" ? "dropImage" : "dropPdf");
    if (!overlay.matches(":popover-open")) overlay.showPopover();
    clearTimeout(timer);
    timer = setTimeout(hide, LINGER_S * 1000);
  });
  document.addEventListener("drop", async (event) => {
    const kind = kindOf(event.dataTransfer.items);
    if (!kind) return;
    event.preventDefault();
    hide();
    const files = await filesOf(event.dataTransfer);
    if (kind === "image" && files[0]) query(files[0]);
    else if (files.length) upload(files);
    else toast(t("nothingDropped"), { failed: true });
  });
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/"));
    if (!file) return;
    // Office programs copy a picture beside the words; in a text field the words are meant.
    const writing = event.target.closest?.("input, textarea");
    if (writing && event.clipboardData.getData("text/plain")) return;
    event.preventDefault();
    query(file);
  });
}
