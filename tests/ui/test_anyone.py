"""The page for anyone: keyboard, language, contrast, names, narrow windows."""

import itertools
import re
from typing import Any

from playwright.sync_api import Browser, expect

from tests.support.browser import Known, Tab, in_browser


@in_browser
def test_keyboard_alone(tab: Tab, known: Known) -> None:
    page = tab.page
    page.keyboard.press("/")
    expect(page.locator("#text")).to_be_focused()
    page.keyboard.type(known.words[0] + "?/jk")
    expect(page.locator("#keys")).to_be_hidden()
    page.keyboard.press("Control+a")
    page.keyboard.type(known.source.split(".")[0].replace("-", " ") + " " + known.words[0])
    page.keyboard.press("Enter")
    links = page.locator(".hit-link")
    expect(links.nth(2)).to_be_visible()
    page.keyboard.press("ArrowDown")
    expect(links.nth(0)).to_be_focused()
    page.keyboard.press("j")
    expect(links.nth(1)).to_be_focused()
    page.keyboard.press("k")
    page.keyboard.press("ArrowRight")
    expect(links.nth(1)).to_be_focused()
    page.keyboard.press("ArrowDown")  # two columns at this width
    expect(links.nth(3)).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    viewer = page.locator("#viewer")
    expect(viewer).to_have_attribute("data-state", "ready")
    page.keyboard.press("j")
    expect(viewer).to_have_attribute("data-state", "ready")
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    expect(links.nth(2)).to_be_focused()
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(links.nth(2)).to_be_focused()


@in_browser
def test_japanese(tab: Tab, browser: Browser, known: Known) -> None:
    page = tab.page
    tab.search(known.words[0])
    expect(page.locator(".hit").first).to_be_visible()
    page.get_by_label("Language").select_option("日本語")
    expect(page.locator("html")).to_have_attribute("lang", "ja")
    expect(page.locator("#query").get_by_role("button", name="検索", exact=True)).to_be_visible()
    expect(page.locator("#results h2")).to_have_text(re.compile(r"^\d+ ページ$"))
    page.locator("#to-documents").click()
    expect(page.locator("#documents-title")).to_have_text("文書")
    page.reload()
    expect(page.locator("html")).to_have_attribute("lang", "ja")
    names = page.evaluate(
        "async () => (await Promise.all(['en', 'ja'].map((tag) => "
        "import(`/ui/lib/strings.${tag}.js`)))).map((strings) => Object.entries(strings.default)"
        ".map(([name, string]) => [name, typeof string]).sort())"
    )
    assert names[0] == names[1]
    other = browser.new_context(locale="ja-JP")
    visit = other.new_page()
    visit.goto(tab.url)
    expect(visit.locator("html")).to_have_attribute("lang", "ja")
    other.close()


CONTRAST = """
() => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const channels = (color) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) => [r, g, b].map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const color = channels(getComputedStyle(at).backgroundColor);
      if (color[3] > 200) return color;
    }
    return [255, 255, 255];
  };
  const wrong = [];
  for (const node of document.querySelectorAll("main *, header *, dialog[open] *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    const seen = node.checkVisibility() && !node.closest(":disabled, option, .unseen");
    if (!own || !seen) continue;
    const style = getComputedStyle(node);
    const pair = [luminance(channels(style.color)), luminance(behind(node))];
    const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    if (ratio < 4.5) wrong.push(`${node.className || node.tagName} ${ratio} ${node.textContent}`);
  }
  return wrong;
}
"""


@in_browser
def test_light_and_dark_with_enough_contrast(tab: Tab, known: Known) -> None:
    page = tab.page

    def paper() -> Any:
        return page.evaluate("() => getComputedStyle(document.body).backgroundColor")

    seen = []
    tab.search(known.words[0])
    expect(page.locator(".hit").first).to_be_visible()
    page.get_by_role("button", name="Filters", exact=True).click()
    expect(page.locator("#filter-documents input").first).to_be_visible()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        seen.append(paper())
        assert page.evaluate(CONTRAST) == []
        page.locator("#to-documents").click()
        expect(page.locator("tbody tr").first).to_be_visible()
        assert page.evaluate(CONTRAST) == []
        page.locator("#to-search").click()
    assert seen[0] != seen[1]
    theme = page.locator("#theme")
    expect(theme).to_have_accessible_name("Colours: as the system has them")
    theme.click()
    expect(theme).to_have_accessible_name("Colours: light")
    assert paper() == seen[0]
    page.emulate_media(color_scheme="light")
    theme.click()
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert paper() == seen[1]


NAMELESS = """
() => {
  const text = (ids) => (ids ?? "").split(" ")
    .map((id) => document.getElementById(id)?.textContent ?? "").join("");
  const name = (node) => [
    node.getAttribute("aria-label"), text(node.getAttribute("aria-labelledby")), node.textContent,
    node.title, ...[...(node.labels ?? [])].map((label) => label.textContent),
  ].some((part) => part?.trim());
  const controls = document.querySelectorAll(
    "a, button, input, select, progress, nav, dialog, section, table, [tabindex='0']");
  const images = document.querySelectorAll("img:not([alt])");
  return [...controls].filter((node) => node.checkVisibility() && !name(node)).concat([...images])
    .map((node) => node.outerHTML.slice(0, 120));
}
"""
HEADINGS = """
() => [...document.querySelectorAll("h1, h2, h3, h4")]
  .filter((node) => node.checkVisibility()).map((node) => Number(node.tagName[1]))
"""


@in_browser
def test_controls_have_names_and_headings_an_order(tab: Tab, known: Known) -> None:
    page = tab.page

    def check() -> None:
        assert page.evaluate(NAMELESS) == []
        levels = page.evaluate(HEADINGS)
        assert levels[0] == 1
        assert levels.count(1) == 1
        steps = itertools.pairwise(levels)
        assert all(after - before <= 1 for before, after in steps), levels
        assert page.locator("main").count() == 1
        ids = page.evaluate("() => [...document.querySelectorAll('[id]')].map((node) => node.id)")
        assert len(ids) == len(set(ids))

    check()
    tab.search(known.words[0])
    expect(page.locator(".hit").first).to_be_visible()
    page.get_by_role("button", name="Filters", exact=True).click()
    expect(page.locator("#filter-documents input").first).to_be_visible()
    check()
    page.locator(".hit-link").first.click()
    expect(page.locator("#viewer")).to_have_attribute("data-state", "ready")
    check()
    page.keyboard.press("Escape")
    page.locator("#to-documents").click()
    expect(page.locator("tbody tr").first).to_be_visible()
    check()
    page.keyboard.press("?")
    check()


@in_browser
def test_a_narrow_window_is_enough(tab: Tab, known: Known) -> None:
    page = tab.page
    page.set_viewport_size({"width": 360, "height": 740})
    for place in ("", f"?q={known.words[0]}", "?view=documents"):
        page.goto(f"{tab.url}/{place}")
        first = {"": "#results h2", "?view=documents": "tbody tr"}.get(place, ".hit")
        expect(page.locator(first).first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
