/** Light, dark, or as the system has it; remembered. */

import { byId, icon } from "./element.js";

const THEMES = ["system", "light", "dark"];
const STORED = "quire-theme";

function stored() {
  const theme = localStorage.getItem(STORED);
  return THEMES.includes(theme) ? theme : "system";
}

function apply(theme) {
  document.documentElement.dataset.theme = theme;
}

apply(stored());

/** The button that goes from one theme to the next. */
export function createThemeSwitch({ t, onLanguage }) {
  const button = byId("theme");
  const names = { system: "themeSystem", light: "themeLight", dark: "themeDark" };
  function show() {
    const label = t(names[stored()]);
    button.replaceChildren(icon(`theme-${stored()}`));
    button.setAttribute("aria-label", label);
    button.title = label;
  }
  button.addEventListener("click", () => {
    const theme = THEMES[(THEMES.indexOf(stored()) + 1) % THEMES.length];
    localStorage.setItem(STORED, theme);
    apply(theme);
    show();
  });
  onLanguage(show);
  show();
}
