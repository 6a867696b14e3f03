"""A server that is busy, asks for a key, is gone, or refuses."""

import re
import time

from playwright.sync_api import Route, expect

from tests.support.browser import Known, Tab, in_browser


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
    expect(page.locator("#notice")).to_be_hidden()
    page.route("**/v1/pages/**", lambda route: problem(route, 404, "not_found"))
    page.goto(f"{tab.url}/?page={'0' * 32}:1")
    expect(page.locator("#viewer")).to_contain_text("This is no longer there")
    tab.forgive("ERR_FAILED", "400", "503", "404")
