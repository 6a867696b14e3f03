/** Questions to a person, and short news. Dialogs give the focus back when they close. */

import { byId, el, iconButton } from "./element.js";
import { t } from "./language.js";

const TOAST_S = 6;

function answered(dialog) {
  return new Promise((resolve) => {
    dialog.returnValue = "";
    dialog.querySelector(".cancel").onclick = () => dialog.close("");
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok"), { once: true });
    dialog.showModal();
  });
}

/** Whether a person confirms; Esc and Cancel say no. */
export function confirm({ title, text, action, danger = false }) {
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  byId("confirm-ok").textContent = action;
  byId("confirm-ok").className = danger ? "danger" : "primary";
  return answered(byId("confirm"));
}

/** A key, or null where a person gives none; `refused`: the last one was wrong. */
export async function askKey(refused) {
  byId("key-text").textContent = t(refused ? "keyRefused" : "keyText");
  byId("key-value").value = "";
  const given = await answered(byId("key"));
  return given ? byId("key-value").value.trim() : null;
}

/** Text for screen readers only; what is outside an open dialog is not read. */
export function announce(text) {
  const live = document.querySelector("dialog:modal .live") ?? byId("live");
  live.textContent = text;
}

/** News in the corner; read aloud too. */
export function toast(text, { failed = false } = {}) {
  const toasts = byId("toasts");
  const gone = () => {
    note.remove();
    if (!toasts.childElementCount) toasts.hidePopover();
  };
  const note = el("div", { class: failed ? "toast failed" : "toast" }, el("p", {}, text));
  note.append(iconButton("close", t("close"), gone));
  toasts.append(note);
  if (toasts.matches(":popover-open")) toasts.hidePopover();
  toasts.showPopover(); // opened again, so that it lies above a dialog opened since
  announce(text);
  if (!failed) setTimeout(gone, TOAST_S * 1000);
}

/** What went wrong in words that say what to do. */
export function explain(error) {
  const known = {
    offline: "errorOffline", unauthorized: "errorUnauthorized", forbidden: "errorForbidden",
    too_large: "errorTooLarge", overloaded: "errorOverloaded", unavailable: "errorUnavailable",
    timeout: "errorTimeout", not_found: "errorNotFound", internal: "errorInternal",
  };
  if (error.type === "invalid_input") return { title: t("errorInput"), text: error.message };
  const name = known[error.type] ?? "errorInternal";
  return { title: t(name), text: t(`${name}Text`, error.message) };
}
