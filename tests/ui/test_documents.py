"""Documents on the page: upload, progress, reindex, delete."""

import json
import re
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.support.browser import JOB_MS, TAG, Tab, a_file, a_pdf, give, in_browser


@in_browser
def test_progress_is_shown_as_it_is_told_and_the_stream_is_taken_up_again(tab: Tab) -> None:
    page, asked = tab.page, []
    counts = {"documents": 3, "documents_done": 1, "pages": 40, "pages_done": 12, "failures": 1}
    running = {"job_id": "a" * 32, "kind": "ingest", "status": "running", "progress": counts}
    ended = {**running, "status": "succeeded", "documents": []}

    def tell(route: Any) -> None:
        asked.append(route.request.headers.get("last-event-id"))
        job = running if len(asked) == 1 else ended
        event = f"event: {job['status']}\nid: {len(asked)}\ndata: {json.dumps(job)}\n\n"
        route.fulfill(body=event, content_type="text/event-stream")

    page.route("**/v1/jobs/*/events", tell)
    page.route("**/v1/documents", lambda route: route.fulfill(status=202, json=running))
    give(page, "drop", a_file("band.pdf", a_pdf("a page")))
    job = page.locator(".job")
    expect(job.locator(".job-summary")).to_have_text("1 of 3 documents · 12 of 40 pages · 1 failed")
    expect(job.get_by_role("progressbar")).to_have_attribute("value", "12")
    expect(job).to_have_attribute("data-status", "succeeded", timeout=JOB_MS)
    assert asked == [None, "1"]


@pytest.mark.long
@in_browser
def test_upload_then_found_then_deleted(tab: Tab) -> None:
    page = tab.page
    word = "xylophonist"
    pages = [f"{word} number {number} of the band" for number in range(1, 5)]
    good = a_file("band.pdf", a_pdf(*pages, title="The band"))
    broken = a_file("broken.pdf", b"%PDF-1.7 not really")
    give(page, "dragover", good)
    expect(page.locator("#drop")).to_have_text("Drop to index these documents")
    give(page, "drop", good, broken, a_file("notes.txt", b"words", "text/plain"))
    expect(page.locator("#drop")).to_be_hidden()
    expect(page.locator(".toast")).to_contain_text("Left out: notes.txt")
    job = page.locator(".job")
    expect(job.get_by_role("progressbar")).to_be_visible()
    expect(job).to_have_attribute("data-status", re.compile("succeeded|failed"), timeout=JOB_MS)
    expect(job.locator("[data-state=indexed]")).to_contain_text("band.pdf")
    wrong = job.locator("[data-state=failed], [data-state=skipped]")
    expect(wrong).to_contain_text("broken.pdf")
    assert wrong.locator(".report-why").inner_text()
    assert any(re.search(r"/v1/jobs/[^/]+/events", one.url) for one in tab.requests)
    row = page.locator("tr", has_text="band.pdf")
    expect(row).to_contain_text("indexed")

    page.locator("#to-search").click()
    tab.search(word)
    expect(page.locator(".hit-link", has_text="The band").first).to_be_visible()

    page.locator("#to-documents").click()
    delete = row.get_by_role("button", name="Delete The band")
    delete.click()
    expect(page.locator("#confirm")).to_contain_text("“The band” with 4 pages")
    page.locator("#confirm").get_by_role("button", name="Cancel").click()
    expect(delete).to_be_focused()
    delete.click()
    page.keyboard.press("Escape")
    expect(row).to_be_visible()
    assert not [one for one in tab.requests if one.method == "DELETE"]
    delete.click()
    page.locator("#confirm").get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)
    expect(page.locator("#live")).to_have_text("Deleted: The band")


@in_browser
def test_reindex_asks_and_shows_its_progress(tab: Tab, evil: dict[str, Any]) -> None:
    page = tab.page
    page.locator("#to-documents").click()
    page.locator("#documents-q").fill("evil")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Reindex").click()
    page.locator("#confirm").get_by_role("button", name="Cancel").click()
    expect(page.locator(".job")).to_have_count(0)
    page.get_by_role("button", name="Reindex").click()
    page.locator("#confirm").get_by_role("button", name="Reindex").click()
    expect(page.locator(".job")).to_contain_text("Reindex: ")
    expect(page.locator("#running")).to_have_text("1")
    page.reload()  # the job is followed again
    expect(page.locator(".job")).to_have_attribute("data-status", "succeeded", timeout=JOB_MS)
    expect(page.locator("#running")).to_be_hidden()
    assert evil["doc_id"]


@in_browser
def test_documents_are_found_by_name_and_tag(tab: Tab, evil: dict[str, Any]) -> None:
    page = tab.page
    page.goto(f"{tab.url}/?view=documents")
    expect(page.locator("tbody tr").nth(1)).to_be_visible()
    page.locator("#documents-tag").fill(TAG)
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody th")).to_contain_text("evil.pdf")
    page.locator("#documents-q").fill("no document has this name")
    expect(page.locator("#documents")).to_contain_text("No such document")
    page.locator("#documents-q").fill("")
    page.get_by_role("button", name=f"Search in {evil['title']}").click()
    expect(page.locator("#text")).to_be_focused()
    expect(page.locator("#chips .chip")).to_have_text(evil["title"])
