"""The web page in a real browser against a real server, and its files without one.

Skipped where there is no Chromium. Errors that a server seldom gives are put in its mouth.
"""

import base64
import io
import itertools
import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pymupdf
import pytest
from PIL import Image
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    Request,
    Route,
    expect,
    sync_playwright,
)

from tests.support.serving import Server

UI = Path(__file__).parents[2] / "serve" / "ui"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
JOB_MS = 90_000
WAKE_MS = 90_000  # of a model that starts with its first request
expect.set_options(timeout=30_000)  # the first search of a fresh server warms its models
EVIL = "<img src=x onerror=document.title='owned'>"
TAG = "page-test"

in_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@dataclass
class Tab:
    """A page of the browser and what went on in it."""

    page: Page
    url: str
    errors: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def search(self, text: str) -> None:
        self.page.locator("#text").fill(text)
        self.page.keyboard.press("Enter")

    def sent(self) -> list[dict[str, Any]]:
        """The searches so far that were sent as JSON."""
        bodies = [one.post_data for one in self.requests if one.url.endswith("/v1/search")]
        return [json.loads(body) for body in bodies if body and body.startswith("{")]

    def forgive(self, *words: str) -> None:
        """Take back the browser's complaints about failures that the test made itself."""
        self.errors = [error for error in self.errors if not any(word in error for word in words)]


@dataclass(frozen=True)
class Known:
    """A page of the library and two words found on it alone."""

    source: str
    page: int
    pages: int
    words: tuple[str, str]


def known_in(library: Path) -> Known:
    """A middle page of the longest document."""
    texts: dict[str, list[str]] = {}
    for path in sorted(library.glob("*.pdf")):
        with pymupdf.open(path) as document:
            texts[path.name] = [str(page.get_text()) for page in document]
    source = max(texts, key=lambda name: len(texts[name]) * bool("".join(texts[name]).strip()))
    page = len(texts[source]) // 2
    here = set(re.findall(r"(?<![A-Za-z])[a-z]{6,}(?![A-Za-z])", texts[source][page - 1]))
    rest = " ".join(
        text.lower()
        for name, pages in texts.items()
        for number, text in enumerate(pages, 1)
        if (name, number) != (source, page)
    )
    alone = sorted((word for word in here if word not in rest), key=lambda word: (-len(word), word))
    return Known(source, page, len(texts[source]), (alone[0], alone[1]))


@pytest.fixture(scope="module")
def known(server: Server) -> Known:
    return known_in(server.library)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield chromium
        chromium.close()


@pytest.fixture
def tab(browser: Browser, server: Server, posted: str) -> Iterator[Tab]:
    """A fresh visit. Afterwards: nothing went wrong in it, and nothing left the server."""
    context = browser.new_context(
        locale="en-GB", viewport={"width": 1280, "height": 800}, accept_downloads=True
    )
    context.set_default_timeout(15_000)
    visit = Tab(context.new_page(), server.url)

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            visit.errors.append(f"{message.text} {message.location}")

    visit.page.on("console", note)
    visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
    visit.page.on("request", lambda request: visit.requests.append(request))
    visit.page.goto(server.url)
    yield visit
    context.close()
    assert not visit.errors
    outside = [one.url for one in visit.requests if not one.url.startswith((server.url, "blob:"))]
    assert not outside


def a_pdf(*pages: str, title: str = "") -> bytes:
    document = pymupdf.open()
    for text in pages:
        document.new_page().insert_text((36, 72), text, fontname="japan")
    document.set_metadata({"title": title})
    return bytes(document.tobytes())


def a_file(name: str, content: bytes, kind: str = "application/pdf") -> Any:
    return {"name": name, "mimeType": kind, "buffer": content}


def a_screenshot(library: Path, known: Known) -> bytes:
    with pymupdf.open(library / known.source) as document:
        pixels = document[known.page - 1].get_pixmap(dpi=60)
        image = Image.frombytes("RGB", (pixels.width, pixels.height), pixels.samples)
    file = io.BytesIO()
    image.crop((0, 0, image.width, image.height // 2)).save(file, "PNG")
    return file.getvalue()


GIVE_FILES = """
([type, files]) => {
  const transfer = new DataTransfer();
  for (const { name, mime, content } of files) {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type: mime }));
  }
  const options = { bubbles: true, cancelable: true };
  const event = type === "paste"
    ? new ClipboardEvent(type, { ...options, clipboardData: transfer })
    : new DragEvent(type, { ...options, dataTransfer: transfer });
  document.body.dispatchEvent(event);
}
"""


def give(page: Page, event: str, *files: Any) -> None:
    """Paste or drop files anywhere on the page."""
    packed = [
        {
            "name": one["name"],
            "mime": one["mimeType"],
            "content": base64.b64encode(one["buffer"]).decode(),
        }
        for one in files
    ]
    page.evaluate(GIVE_FILES, [event, packed])


@pytest.fixture(scope="module")
def posted(server: Server) -> Iterator[str]:
    """The job of a document full of markup; it runs while the first tests do."""
    content = a_pdf(f"zanzibar\n{EVIL}\nquokka", title=f"{EVIL} title")
    with server.client() as client:
        answer = client.post(
            "/v1/documents", files={"files": ("evil.pdf", content)}, data={"tags": TAG}
        )
        yield str(answer.raise_for_status().json()["job_id"])
        for document in client.get("/v1/documents", params={"tag": TAG}).json()["documents"]:
            client.delete(f"/v1/documents/{document['doc_id']}")


@pytest.fixture(scope="module")
def evil(server: Server, posted: str) -> dict[str, Any]:
    """That document as the server lists it, with a tag of its own."""
    until = time.monotonic() + JOB_MS / 1000
    with server.client() as client:
        while (status := client.get(f"/v1/jobs/{posted}").json()["status"]) != "succeeded":
            assert status != "failed"
            assert time.monotonic() < until
            time.sleep(0.2)
        (found,) = client.get("/v1/documents", params={"tag": TAG}).json()["documents"]
    return dict(found)


# --- files -------------------------------------------------------------------------------------


def test_files_are_small_static_and_free_of_markup_out_of_data() -> None:
    for path in UI.iterdir():
        text = path.read_text(encoding="utf-8")
        assert path.suffix in (".html", ".css", ".js", ".svg"), path.name
        assert len(text.splitlines()) <= 250, path.name
        outside = re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text)
        assert set(outside) <= {"http://www.w3.org"}, path.name
        if path.suffix == ".js":
            forbidden = "innerHTML|outerHTML|insertAdjacentHTML|document.write|eval|new Function"
            assert not re.search(rf"\b({forbidden})\b", text), path.name
            assert "@import" not in text
        if path.suffix == ".html":
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text)


def test_every_string_that_is_named_is_there() -> None:
    english = (UI / "strings.en.js").read_text(encoding="utf-8")
    there = set(re.findall(r"^  (\w+):", english, re.MULTILINE))
    code = "\n".join(path.read_text(encoding="utf-8") for path in UI.glob("*.js"))
    named = set(re.findall(r'\bt\("(\w+)"', code))
    named |= set(re.findall(r'data-t(?:-\w+)?="(\w+)"', (UI / "index.html").read_text()))
    assert named
    assert named <= there


# --- searching ---------------------------------------------------------------------------------


@in_browser
def test_text_search_shows_marked_words_and_images(tab: Tab, known: Known) -> None:
    tab.search(" ".join(known.words))
    hit = tab.page.locator(".hit", has_text=f"Page {known.page}").filter(has_text=known.source)
    expect(hit).to_have_count(1)
    marks = [text.lower() for text in hit.locator("mark").all_text_contents()]
    assert any(word in mark or mark in word for word in known.words for mark in marks)
    image = hit.locator("img")
    image.scroll_into_view_if_needed()
    expect(hit.locator(".frame")).to_have_attribute("data-state", "ready")
    assert image.evaluate("image => image.naturalWidth") > 100
    expect(image).to_have_attribute("alt", f"Page {known.page} of {known.source}")
    expect(tab.page.locator("#results h2")).to_have_text(re.compile(r"^\d+ pages?$"))
    expect(tab.page.locator(".took")).to_have_text(re.compile(r"\d+ ms"))
    expect(tab.page.locator("#live")).to_have_text(re.compile(r"^\d+ pages?$"))
    assert hit.locator(".score").count() >= 2
    assert hit.locator(".score").first.get_attribute("title")


@in_browser
def test_pasted_screenshot_alone_and_with_words(
    tab: Tab,
    known: Known,
    server: Server,
) -> None:
    page = tab.page
    give(page, "paste", a_file("shot.png", a_screenshot(server.library, known), "image/png"))
    expect(page.locator("#shot img")).to_be_visible()
    expect(page.locator(".hit").first).to_be_visible()
    expect(page.locator(".hit [data-score=text]")).to_have_count(0)
    with page.expect_response("**/v1/search") as answered:
        tab.search(known.words[0])
    request = answered.value.request
    assert request.headers["content-type"].startswith("multipart/form-data")
    expect(page.locator(".hit mark", has_text=known.words[0]).first).to_be_visible()
    with page.expect_request("**/v1/search"):
        page.get_by_role("button", name="Remove the screenshot").click()
    expect(page.locator("#shot")).to_be_hidden()
    assert tab.sent()[-1]["text"] == known.words[0]
    # A dropped image and a chosen one do the same.
    give(page, "drop", a_file("shot.png", a_screenshot(server.library, known), "image/png"))
    expect(page.locator("#shot img")).to_be_visible()
    page.get_by_role("button", name="Remove the screenshot").click()
    page.set_input_files(
        "#image-file", a_file("s.png", a_screenshot(server.library, known), "image/png")
    )
    expect(page.locator("#shot img")).to_be_visible()


@in_browser
def test_what_is_no_image_is_said(tab: Tab) -> None:
    give(tab.page, "paste", a_file("broken.png", b"no image", "image/png"))
    expect(tab.page.locator(".toast")).to_contain_text("broken.png cannot be read as an image")
    expect(tab.page.locator("#shot")).to_be_hidden()


@in_browser
def test_mode_and_reranker_change_request_and_scores(tab: Tab, known: Known) -> None:
    page = tab.page
    tab.search(" ".join(known.words))
    expect(page.locator(".hit").first).to_be_visible()
    assert "mode" not in tab.sent()[-1]  # the server's default until a person chooses
    page.get_by_role("radio", name="Text").check()
    expect(page.locator(".hit [data-score=text]").first).to_be_visible()
    expect(page.locator(".hit [data-score=dense]")).to_have_count(0)
    assert tab.sent()[-1]["mode"] == "text"
    assert "mode=text" in page.url
    page.get_by_role("radio", name="Dense").check()
    expect(page.locator(".hit [data-score=dense]").first).to_be_visible()
    expect(page.locator(".hit [data-score=text]")).to_have_count(0)
    assert tab.sent()[-1]["mode"] == "dense"
    assert "rerank" not in tab.sent()[-1]
    for chosen, score in (("off", ""), ("reranker", "rerank"), ("late interaction", "maxsim")):
        page.get_by_label("Rerank").select_option(label=chosen)
        for name in ("rerank", "maxsim"):
            scores = page.locator(f".hit [data-score={name}]")
            if name == score:
                expect(scores.first).to_be_visible(timeout=WAKE_MS)
            else:
                expect(scores).to_have_count(0)
    assert [sent["rerank"] for sent in tab.sent()[-3:]] == [
        "none", "cross-encoder", "late-interaction",
    ]  # fmt: skip


@in_browser
def test_what_the_server_does_not_run_cannot_be_chosen(tab: Tab) -> None:
    models = {"object": "list", "data": [{"id": "e", "kind": "embedder", "served": True}]}
    tab.page.route("**/v1/models", lambda route: route.fulfill(json=models))
    tab.page.goto(f"{tab.url}/?rerank=cross-encoder")
    expect(tab.page.locator("#rerank option:disabled")).to_have_count(2)
    expect(tab.page.get_by_label("Rerank")).to_have_value("")


@in_browser
def test_a_new_search_ends_the_last(tab: Tab, known: Known) -> None:
    held: list[Route] = []
    failed: list[str] = []
    tab.page.on("requestfailed", lambda request: failed.append(str(request.post_data)))
    tab.page.route(
        "**/v1/search", lambda route: held.append(route) if not held else route.fallback()
    )
    tab.search("never answered")
    expect(tab.page.locator(".skeleton").first).to_be_visible()
    tab.search(known.words[0])
    expect(tab.page.locator(".hit-link").first).to_be_visible()
    assert any("never answered" in body for body in failed)
    tab.page.unroute_all(behavior="ignoreErrors")


@in_browser
def test_address_back_and_forward(tab: Tab, known: Known) -> None:
    page = tab.page
    for word in known.words:
        tab.search(word)
        expect(page.locator(".hit mark", has_text=word).first).to_be_visible()
    page.go_back()
    expect(page.locator("#text")).to_have_value(known.words[0])
    expect(page.locator(".hit mark", has_text=known.words[0]).first).to_be_visible()
    page.go_forward()
    expect(page.locator("#text")).to_have_value(known.words[1])
    page.reload()
    expect(page.locator("#text")).to_have_value(known.words[1])
    expect(page.locator(".hit mark", has_text=known.words[1]).first).to_be_visible()
    assert known.words[1] in page.title()
    page.locator("#home").click()
    expect(page.locator("#text")).to_have_value("")
    expect(page.locator("#results h2")).to_have_text("Search the pages of your documents")


# --- a page ------------------------------------------------------------------------------------


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


# --- filters -----------------------------------------------------------------------------------


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


# --- evidence and quality ---------------------------------------------------------------------


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
def test_badge_filter_order_and_overlay_of_quality(tab: Tab, known: Known) -> None:
    page = tab.page
    tab.search(" ".join(known.words))
    badges = page.locator(".hit .quality")
    expect(badges.first).to_contain_text(re.compile("OCR: (good|rescan|by hand)"))
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


# --- documents ---------------------------------------------------------------------------------


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


# --- anyone ------------------------------------------------------------------------------------


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


# --- when things go wrong ----------------------------------------------------------------------


def problem(route: Route, status: int, kind: str, **headers: str) -> None:
    error = {"error": {"type": kind, "message": f"made-up {kind}", "param": None}}
    route.fulfill(
        status=status, json=error, headers={key.replace("_", "-"): headers[key] for key in headers}
    )


@in_browser
def test_a_busy_server_is_asked_again(tab: Tab, known: Known) -> None:
    times: list[float] = []

    def busy(route: Route) -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            problem(route, 503, "overloaded", Retry_After="2")
        else:
            route.fallback()

    tab.page.route("**/v1/search", busy)
    tab.search(known.words[0])
    expect(tab.page.locator("#results h2")).to_have_text("The server is busy")
    expect(tab.page.locator(".countdown")).to_have_text(re.compile(r"Trying again in [12] s"))
    expect(tab.page.locator(".hit").first).to_be_visible()
    assert times[1] - times[0] > 1.5
    tab.forgive("503")


@in_browser
def test_a_key_is_asked_for_and_kept_for_the_tab(tab: Tab, known: Known) -> None:
    page = tab.page

    def guarded(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer right":
            route.fallback()
        else:
            problem(route, 401, "unauthorized")

    page.route("**/v1/**", guarded)
    page.goto(f"{tab.url}/?q={known.words[0]}")
    key = page.locator("#key")
    expect(key).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#results h2")).to_have_text("The server asks for a key")
    page.get_by_role("button", name="Enter a key").click()
    expect(key.get_by_label("Key")).to_be_focused()  # once the server has refused again
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(key).to_contain_text("does not know this key")
    expect(key.get_by_label("Key")).to_be_focused()
    page.keyboard.type("right")
    page.keyboard.press("Enter")
    expect(page.locator(".frame[data-state=ready] img").first).to_be_visible()
    expect(key).to_be_hidden()
    assert "right" not in page.evaluate("() => JSON.stringify({ ...localStorage })")
    page.reload()
    expect(page.locator(".hit").first).to_be_visible()
    tab.forgive("401")


@in_browser
def test_a_server_that_is_gone_and_one_that_refuses(tab: Tab, known: Known) -> None:
    page = tab.page
    page.route("**/v1/search", lambda route: route.abort())
    tab.search(known.words[0])
    expect(page.locator("#results h2")).to_have_text("The server does not answer")
    page.unroute("**/v1/search")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".hit").first).to_be_visible()
    page.route("**/v1/search", lambda route: problem(route, 400, "invalid_input"))
    tab.search("anything")
    expect(page.locator("#results")).to_contain_text("made-up invalid_input")
    not_ready = {
        "status": "not ready",
        "checks": {"store": "Milvus does not answer", "embedder": "ok"},
    }
    page.route("**/readyz", lambda route: route.fulfill(status=503, json=not_ready))
    page.reload()
    expect(page.locator("#notice")).to_have_text(
        "The server is not ready: store: Milvus does not answer"
    )
    page.unroute("**/readyz")
    expect(page.locator("#notice")).to_be_hidden(timeout=10_000)
    page.route("**/v1/pages/**", lambda route: problem(route, 404, "not_found"))
    page.goto(f"{tab.url}/?page={'0' * 32}:1")
    expect(page.locator("#viewer")).to_contain_text("This is no longer there")
    tab.forgive("ERR_FAILED", "400", "503", "404")
