/** The search box: words, a screenshot, or both, and the choices of mode and reranking. */

import { byId, el, iconButton } from "../lib/element.js";
import { onLanguage, t } from "../lib/language.js";
import { toast } from "../lib/dialogs.js";

const LONGEST_SIDE_PX = 2048; // more than any model here looks at
const AS_IS = ["image/png", "image/jpeg", "image/webp"];
const UNSEEN = ["image/tiff"]; // the server reads it, browsers do not show it

/** An image as the server takes it: big ones smaller, odd formats as PNG. */
export async function toQueryImage(file) {
  if (UNSEEN.includes(file.type)) return file;
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, LONGEST_SIDE_PX / Math.max(bitmap.width, bitmap.height));
  if (scale === 1 && AS_IS.includes(file.type)) return file;
  const canvas = el("canvas");
  canvas.width = Math.round(bitmap.width * scale);
  canvas.height = Math.round(bitmap.height * scale);
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  return new File([blob], "screenshot.png", { type: "image/png" });
}

/** Calls `search()` on submit, a new or removed image, and a switch. */
export function createQueryForm({ search }) {
  const text = byId("text");
  const rerank = byId("rerank");
  const modes = [...document.querySelectorAll("input[name=mode]")];
  const chosen = { mode: "", rerank: "" }; // empty: the server's default, sent as nothing
  let usualMode = "hybrid"; // Quire's own, until the server shows its
  let image = null;
  let objectUrl = "";

  function showMode(mode) {
    for (const radio of modes) radio.checked = radio.value === mode;
  }

  function showImage() {
    URL.revokeObjectURL(objectUrl);
    objectUrl = "";
    byId("shot").hidden = !image;
    byId("shot").replaceChildren();
    if (!image) return;
    const seen = !UNSEEN.includes(image.type);
    if (seen) objectUrl = URL.createObjectURL(image);
    const shot = seen
      ? el("img", { src: objectUrl, alt: t("screenshotOfQuery") })
      : el("span", { class: "shot-name" }, image.name);
    byId("shot").append(shot, iconButton("close", t("removeImage"), removeImage));
  }

  function removeImage() {
    image = null;
    showImage();
    text.focus();
    search();
  }

  async function setImage(file) {
    try {
      image = await toQueryImage(file);
    } catch {
      toast(t("notAnImage", file.name), { failed: true });
      return;
    }
    showImage();
    search();
  }

  function setKinds(kinds) {
    for (const option of rerank.options) {
      option.disabled = option.dataset.needs !== undefined && !kinds.has(option.dataset.needs);
    }
    setRerank(chosen.rerank);
  }

  function setRerank(wanted) {
    const option = [...rerank.options].find(({ value, disabled }) => value === wanted && !disabled);
    chosen.rerank = rerank.value = option ? wanted : "";
  }

  byId("query").addEventListener("submit", (event) => {
    event.preventDefault();
    search();
  });
  for (const radio of modes) {
    radio.addEventListener("change", () => {
      chosen.mode = radio.value;
      search({ quietly: true });
    });
  }
  rerank.addEventListener("change", () => {
    chosen.rerank = rerank.value;
    search({ quietly: true });
  });
  byId("choose-image").addEventListener("click", () => byId("image-file").click());
  byId("image-file").addEventListener("change", ({ target }) => {
    if (target.files[0]) setImage(target.files[0]);
    target.value = "";
  });
  onLanguage(showImage);
  showMode(usualMode);

  return {
    setImage,
    setKinds,
    value: () => ({ text: text.value.trim(), image, ...chosen }),
    focus() {
      text.focus();
      text.select();
    },
    /** Put a place of the address, or of history, into the form without searching. */
    restore(place) {
      text.value = place.text;
      image = place.image ?? null;
      chosen.mode = modes.some(({ value }) => value === place.mode) ? place.mode : "";
      setRerank(place.rerank);
      showMode(chosen.mode || usualMode);
      showImage();
    },
    /** Show what the server did where nothing was chosen. */
    showUsed(used) {
      if (!chosen.mode) showMode((usualMode = used.mode));
    },
  };
}
