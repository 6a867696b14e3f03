"""Filters, orders and badges on the page."""

import re
from typing import Any

from playwright.sync_api import expect

from tests.support.browser import TAG, WAKE_MS, Known, Tab, in_browser


@in_browser
def test_filters_by_tag_document_and_date(tab: Tab, known: Known, evil: dict[str, Any]) -> None:
    page = tab.page
    tab.search(f"{known.words[0]} quokka")
    expect(page.locator(".hit").nth(1)).to_be_visible()
    page.get_by_role("button", name="Filters", exact=True).click()
    page.locator("#filter-tag").fill(TAG)
    page.keyboard.press("Enter")
    expect(page.locator(".hit")).to_have_count(1)
    expect(page.locator(".hit-link")).to_have_text(evil["title"])
    assert tab.sent()[-1]["filters"]["tags"] == [TAG]
    page.get_by_role("button", name=f"Remove filter {TAG}").click()
    expect(page.locator(".hit").nth(1)).to_be_visible()
    page.locator("#filter-document").fill("evil")
    expect(page.locator("#filter-documents li")).to_have_count(1)
    page.locator("#filter-documents input").check()
    expect(page.locator(".hit")).to_have_count(1)
    assert tab.sent()[-1]["filters"]["doc_ids"] == [evil["doc_id"]]
    page.reload()
    expect(page.locator("#chips .chip")).to_have_text(evil["title"])
    expect(page.locator(".hit")).to_have_count(1)
    page.get_by_role("button", name="Filters", exact=True).click()
    page.get_by_role("button", name="Clear all filters").click()
    expect(page.locator(".hit").nth(1)).to_be_visible()
    page.locator("#filter-before").fill("2001-01-01")
    expect(page.locator("#results h2")).to_have_text("No page matches")
    assert tab.sent()[-1]["filters"]["before"].startswith(("2001-01-01T", "2001-01-02T"))
    page.locator("#results").get_by_role("button", name="Clear all filters").click()
    expect(page.locator(".hit").nth(1)).to_be_visible()


@in_browser
def test_filters_by_conditions_put_together_and_written(tab: Tab, known: Known) -> None:
    page = tab.page
    tab.search(" ".join(known.words))
    expect(page.locator(".hit").first).to_be_visible()
    page.get_by_role("button", name="Filters", exact=True).click()
    page.get_by_label("Field", exact=True).fill("tag")
    page.get_by_label("Value", exact=True).fill("demo")
    page.keyboard.press("Enter")
    expect(page.locator("#chips .chip")).to_have_text('{"tag":"demo"}')
    page.get_by_label("Field", exact=True).fill("year")
    page.get_by_label("Comparison").select_option(label="at least")
    page.get_by_label("Value", exact=True).fill("2020")
    page.keyboard.press("Enter")
    expect(page.locator("#results h2")).to_have_text("No page matches")
    assert tab.sent()[-1]["filter"] == {"tag": "demo", "year": {"gte": 2020}}
    conditions = page.get_by_role("textbox", name="Conditions as JSON")
    conditions.fill('{"any": [{"tag": "demo"}, {"year": {"gte": 2020}}]}')
    conditions.press("Enter")
    expect(page.locator(".hit").first).to_be_visible()
    page.reload()
    expect(page.locator("#chips .chip")).to_contain_text('{"any": [{"tag": "demo"}')
    expect(page.locator(".hit").first).to_be_visible()


@in_browser
def test_conditions_that_are_wrong_are_said_under_their_field(tab: Tab, known: Known) -> None:
    page = tab.page
    tab.search(known.words[0])
    page.get_by_role("button", name="Filters", exact=True).click()
    conditions = page.get_by_role("textbox", name="Conditions as JSON")
    problem = page.locator("#filter-conditions-problem")
    conditions.fill("year >= 2020")
    conditions.press("Enter")
    expect(problem).to_contain_text('Write it like {"year": {"gte": 2020}}')
    expect(page.locator(".hit")).to_have_count(0)
    conditions.fill('{"year": {"from": 2020}}')
    conditions.press("Enter")
    expect(problem).to_contain_text("filter.year.from: there is no such test")
    expect(page.locator("#results")).to_contain_text("filter.year.from")
    expect(conditions).to_have_attribute("aria-invalid", "true")
    conditions.fill('{"tag": "demo"}')
    conditions.press("Enter")
    expect(problem).to_be_hidden()
    expect(page.locator(".hit").first).to_be_visible()
    tab.forgive("400")
    page.get_by_role("link", name="Documents").click()
    listed = page.locator("#documents tbody tr")
    expect(listed.nth(2)).to_be_visible()
    written = page.locator("#documents-conditions")
    written.fill('{"not": {"tag": "demo"}, "ingested": {"lt": "2001-01-01"}}')
    written.press("Enter")
    expect(page.locator("#documents")).to_contain_text("No such document")
    written.fill("{")
    written.press("Enter")
    expect(page.locator("#documents")).to_contain_text("filter: not JSON")
    written.fill("")
    written.press("Enter")
    expect(listed.nth(2)).to_be_visible()
    tab.forgive("400")


@in_browser
def test_no_hits_and_no_documents_say_what_to_do(tab: Tab) -> None:
    page = tab.page
    page.goto(f"{tab.url}/?q=qxzvwkj&mode=text")
    expect(page.locator("#results h2")).to_have_text("No page matches")
    expect(page.locator("#results li")).to_have_count(4)
    nothing: dict[str, Any] = {"documents": [], "total": 0}
    page.route("**/v1/documents?*", lambda route: route.fulfill(json=nothing))
    page.goto(tab.url)
    expect(page.locator("#results h2")).to_have_text("Nothing is indexed yet")
    expect(page.locator("#results code")).to_have_text("quire ingest ./pdfs")
    page.get_by_role("button", name="Add documents").click()
    expect(page.locator("#documents")).to_contain_text("Nothing is indexed yet")


@in_browser
def test_badge_filter_order_and_overlay_of_quality(tab: Tab, known: Known) -> None:
    page = tab.page
    tab.search(" ".join(known.words))
    badges = page.locator(".hit .quality")
    expect(badges.first).to_contain_text(re.compile("OCR: (good|rescan|manual)"))
    page.get_by_role("button", name="Filters", exact=True).click()
    page.get_by_label("errors, at most").fill("100")
    page.get_by_label("errors, at most").press("Tab")
    expect(page.locator("#chips")).to_contain_text("OCR errors ≤ 100 %")
    expect(badges.first).to_be_visible()
    page.get_by_label("Order").select_option(label="hardest to read first")
    expect(page.locator("#chips")).to_contain_text("hardest to read first")
    sent = tab.sent()[-1]
    assert (sent["filters"]["max_cer"], sent["sort"]) == (1, "hard-first")
    page.reload()
    expect(page.locator("#chips .chip")).to_have_count(2)
    page.locator(".hit-link").first.click()
    page.get_by_role("button", name="Show what is hard to read").click()
    told = re.compile("Marked: what is expected|Nothing stands out")
    expect(page.locator(".side")).to_contain_text(told, timeout=WAKE_MS)
    expect(page.locator("canvas.evidence")).to_be_visible()
