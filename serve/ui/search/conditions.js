/** Conditions in the language of filters (docs/search.md): put together here, or written as JSON. */

import { ApiError } from "../lib/api.js";
import { byId, el } from "../lib/element.js";
import { onLanguage, t } from "../lib/language.js";

const WORDS = ["all", "any", "not", "metadata"]; // of the language; metadata may have such names, too
const BUILT_IN = ["tag", "document", "ingested", "expected_cer"];

/** "2020" is a number and "true" a boolean; all else is text, dates too. */
function typed(text) {
  if (text === "true" || text === "false") return text === "true";
  return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
}

function toCondition(name, test, value) {
  const wanted = test === "is" ? typed(value) : { [test]: typed(value) };
  return WORDS.includes(name) ? { metadata: { [name]: wanted } } : { [name]: wanted };
}

/** Both must hold. */
function together(filter, condition) {
  const names = Object.keys(filter);
  if (names.length === 0) return condition;
  if (names.length === 1 && Array.isArray(filter.all)) return { all: [...filter.all, condition] };
  return names.some((name) => name in condition) ? { all: [filter, condition] } : { ...filter, ...condition };
}

/** Calls `changed()` when a condition was added. */
export function createConditions({ changed }) {
  const field = byId("filter-conditions");
  const known = new Set(BUILT_IN); // names that documents have

  /** Say under the field what is wrong with it; "" where nothing is. */
  function complain(problem) {
    byId("filter-conditions-problem").textContent = problem;
    byId("filter-conditions-problem").hidden = problem === "";
    field.setAttribute("aria-invalid", String(problem !== ""));
  }

  /** The filter as the server wants it. Throws an ApiError that says what is wrong. */
  function read() {
    complain("");
    if (!field.value.trim()) return {};
    try {
      const filter = JSON.parse(field.value);
      if (filter !== null && typeof filter === "object" && !Array.isArray(filter)) return filter;
    } catch {
      // Said below, in the person's language.
    }
    complain(t("filterNotJson"));
    throw new ApiError(400, "invalid_input", t("filterNotJson"));
  }

  function add(event) {
    event.preventDefault();
    const [name, value] = ["name", "value"].map((part) => byId(`condition-${part}`).value.trim());
    const empty = ["name", "value"].find((part) => !byId(`condition-${part}`).value.trim());
    if (empty) return byId(`condition-${empty}`).focus();
    let filter;
    try {
      filter = read();
    } catch {
      return field.focus(); // what is wrong with it stands below
    }
    field.value = JSON.stringify(together(filter, toCondition(name, byId("condition-test").value, value)));
    byId("condition-value").value = "";
    return changed();
  }

  byId("condition-form").addEventListener("submit", add);
  onLanguage(() => {
    if (!byId("filter-conditions-problem").hidden) complain("");
  });

  return {
    read,
    /** An error of the server, where it is about this field. */
    refused(error) {
      if (error.type === "invalid_input" && error.message.startsWith("filter")) complain(error.message);
    },
    learn(document) {
      for (const name of Object.keys(document.metadata ?? {})) known.add(name);
      const names = [...known].sort();
      byId("condition-names").replaceChildren(...names.map((name) => el("option", { value: name })));
    },
  };
}
