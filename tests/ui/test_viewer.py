"""A page of a document, opened."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import expect

from tests.support.browser import EVIL, Known, Tab, in_browser
from tests.support.serving import Server


@in_browser
def test_a_page_opens_with_text_neighbours_and_original(
    tab: Tab,
    known: Known,
    server: Server,
) -> None:
    page = tab.page
    tab.search(" ".join(known.words))
    hit = page.locator(".hit", has_text=f"Page {known.page}").filter(has_text=known.source)
    hit.get_by_role("link").click()
    viewer = page.locator("#viewer")
    expect(viewer).to_have_attribute("data-state", "ready")
    assert viewer.locator("img").evaluate("image => image.naturalWidth") > 600
    expect(viewer.locator(".page-text mark", has_text=known.words[0]).first).to_be_visible()
    expect(viewer.locator(".page-count")).to_have_text(f"Page {known.page} of {known.pages}")
    assert "page" in parse_qs(urlsplit(page.url).query)
    page.keyboard.press("ArrowRight")
    expect(viewer.locator(".page-count")).to_have_text(f"Page {known.page + 1} of {known.pages}")
    page.keyboard.press("ArrowLeft")
    viewer.get_by_role("button", name="Previous page").click()
    expect(viewer.locator(".page-count")).to_have_text(f"Page {known.page - 1} of {known.pages}")
    with page.expect_download() as download:
        viewer.get_by_role("button", name="Download the original PDF").click()
    assert download.value.suggested_filename == known.source
    assert Path(download.value.path()).read_bytes() == (server.library / known.source).read_bytes()
    page.keyboard.press("z")
    expect(viewer).to_have_class(re.compile("large"))
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    expect(page).not_to_have_url(re.compile("page="))
    hit.get_by_role("link").click()
    expect(viewer).to_be_visible()
    page.go_back()
    expect(viewer).to_be_hidden()


@in_browser
def test_a_link_to_a_page_opens_it_and_finds_alike(tab: Tab, evil: dict[str, Any]) -> None:
    tab.page.goto(f"{tab.url}/?q=quokka&page={evil['doc_id']}:1")
    viewer = tab.page.locator("#viewer")
    expect(viewer).to_have_attribute("data-state", "ready")
    viewer.get_by_role("button", name="Find pages that look like this one").click()
    expect(viewer).to_be_hidden()
    expect(tab.page.locator("#shot img")).to_be_visible()
    expect(tab.page.locator(".hit").first).to_be_visible()


@in_browser
def test_evidence_is_drawn_over_the_page(tab: Tab, known: Known) -> None:
    page = tab.page
    tab.search(" ".join(known.words))
    page.locator(".hit-link").first.click()
    expect(page.locator("#viewer")).to_have_attribute("data-state", "ready")
    expect(page.locator("canvas.evidence")).to_be_hidden()
    toggle = page.get_by_role("button", name="Show why this page was found")
    toggle.click()
    expect(page.locator("canvas.evidence")).to_be_visible()
    expect(page.locator(".side")).to_contain_text("Marked: the words of your query.")
    expect(toggle).to_have_attribute("aria-pressed", "true")
    image = page.locator(".paper img").bounding_box()
    drawn = page.locator("canvas.evidence").bounding_box()
    assert image and drawn
    assert all(abs(image[side] - drawn[side]) <= 1 for side in ("x", "y", "width", "height"))
    marked = page.locator("canvas.evidence").evaluate(
        "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)"
        ".data.filter((value, at) => at % 4 === 3 && value > 0).length"
    )
    assert marked > 0
    page.keyboard.press("e")
    expect(page.locator("canvas.evidence")).to_be_hidden()


@in_browser
def test_markup_in_documents_is_shown_as_text(tab: Tab, evil: dict[str, Any]) -> None:
    page = tab.page
    tab.search("zanzibar quokka")
    link = page.locator(".hit-link", has_text=EVIL)
    expect(link).to_have_text(f"{EVIL} title")
    link.click()
    expect(page.locator("#viewer h2")).to_have_text(f"{EVIL} title")
    expect(page.locator(".page-text")).to_contain_text("<img src=x onerror")
    page.keyboard.press("Escape")
    page.locator("#to-documents").click()
    expect(page.locator("th", has_text="evil.pdf")).to_contain_text(EVIL)
    page.get_by_role("button", name=f"Delete {EVIL} title").click()
    expect(page.locator("#confirm-text")).to_contain_text(EVIL)
    assert page.locator("img[src='x']").count() == 0
    assert "owned" not in page.title()
    assert evil["pages"] == 1
