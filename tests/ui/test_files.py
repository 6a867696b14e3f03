"""The files of the page, without a browser."""

import re
from pathlib import Path

from tests.support.browser import UI


def test_files_are_small_static_and_free_of_markup_out_of_data() -> None:
    for path in filter(Path.is_file, UI.rglob("*")):
        text = path.read_text(encoding="utf-8")
        assert path.suffix in (".html", ".css", ".js", ".svg"), path.name
        is_table = path.name.startswith("strings.")
        assert len(text.splitlines()) <= (300 if is_table else 250), path.name
        outside = re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text)
        assert set(outside) <= {"http://www.w3.org"}, path.name
        if path.suffix == ".js":
            forbidden = "innerHTML|outerHTML|insertAdjacentHTML|document.write|eval|new Function"
            assert not re.search(rf"\b({forbidden})\b", text), path.name
            assert "@import" not in text
        if path.suffix == ".html":
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text)


def test_every_string_that_is_named_is_there() -> None:
    english = (UI / "lib" / "strings.en.js").read_text(encoding="utf-8")
    there = set(re.findall(r"^  (\w+):", english, re.MULTILINE))
    code = "\n".join(path.read_text(encoding="utf-8") for path in UI.rglob("*.js"))
    named = set(re.findall(r'\bt\("(\w+)"', code))
    named |= set(re.findall(r'data-t(?:-\w+)?="(\w+)"', (UI / "index.html").read_text()))
    assert named
    assert named <= there
