"""One renderer, and a document that it can read."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.rendering.client import Renderer, RenderLimits
from tests.support.documents import ENGLISH, a_document, save


@pytest.fixture(scope="package")
def renderer() -> Iterator[Renderer]:
    with Renderer(RenderLimits()) as shared:
        yield shared


@pytest.fixture
def good(tmp_path: Path) -> str:
    return save(a_document(ENGLISH), tmp_path / "good.pdf")
