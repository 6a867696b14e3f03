"""Searching on the page."""

import re

from playwright.sync_api import Route, expect

from tests.support.browser import WAKE_MS, Known, Tab, a_file, a_screenshot, give, in_browser
from tests.support.serving import Server


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
    tab.forgive("503")  # the page asks again while a model starts
    asked = [sent["rerank"] for sent in tab.sent() if "rerank" in sent]
    assert list(dict.fromkeys(asked)) == [
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
