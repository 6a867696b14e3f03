"""A browser, a document full of markup, and a fresh visit for every test."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, sync_playwright

from tests.support.browser import (
    CHROMIUM,
    EVIL,
    FLAGS,
    JOB_MS,
    TAG,
    WAKE_MS,
    Known,
    Tab,
    a_pdf,
    known_in,
)
from tests.support.serving import Server


@pytest.fixture(scope="package")
def known(server: Server) -> Known:
    return known_in(server.library)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Closed with this package: while it is open, asyncio.run() of other tests would fail."""
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
    context.set_default_timeout(WAKE_MS)
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


@pytest.fixture(scope="package")
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


@pytest.fixture(scope="package")
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
