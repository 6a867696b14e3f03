"""Where on a page the answer is: words, maps, regions, and the picture of them."""

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.evidence import area, is_hit, late_evidence, make_pages, rendered
from cluster.errors import InvalidInput
from cluster.pages.vectors import Tile
from cluster.pages.words import PageWord, from_bytes, matched_words, to_bytes
from jobs.rendering.client import Renderer, RenderLimits, RenderTarget
from models.evidence.overlay import overlay
from models.evidence.regions import Evidence, of_contributions, of_states, of_tokens, of_words
from models.inputs import MultimodalInput
from models.late_interaction.model import ColPaliModel
from models.options import EmbedderOptions, LateInteractionOptions
from models.qwen3_vl.embedder import Qwen3VLEmbedder
from tests.support.documents import a_pdf_of_places

TARGET = RenderTarget(min_pixels=1024, max_pixels=64 * 1024)


def a_jpeg(width: int = 200, height: int = 300) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "white").save(file, "JPEG")
    return file.getvalue()


# Words


def test_words_are_kept_with_their_places(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(a_pdf_of_places({"zebra crossing": (0.1, 0.2), "焙煎中の火災": (0.5, 0.7)}))
    with Renderer(RenderLimits()) as renderer:
        words = from_bytes(renderer.render(str(path), 1, TARGET).words)
    assert [word.text for word in words] == ["zebra", "crossing", "焙煎中の火災"]
    left, top, right, bottom = words[0].box
    assert left == pytest.approx(0.1, abs=0.01)
    assert top < 0.2 < bottom + 0.01 and right < words[1].box[0]
    (zebra,) = matched_words(words, "Where is the ZEBRA?")
    assert zebra == words[0]
    (fire,) = matched_words(words, "火災")
    assert fire.text == "火災"
    assert fire.box[0] > words[2].box[0] + 0.6 * (words[2].box[2] - words[2].box[0])
    assert matched_words(words, "giraffe") == []


def test_words_beside_each_other_are_one_region() -> None:
    def at(text: str, left: float, top: float) -> PageWord:
        return PageWord(text, (left, top, left + 0.08, top + 0.02))

    words = [at("tube", 0.1, 0.1), at("seat", 0.1, 0.5), at("tube", 0.2, 0.5), at("seat", 0.8, 0.5)]
    first, *others = of_words(words).regions
    assert (first.text, first.score) == ("seat tube", 1.0)
    assert first.box == pytest.approx((0.1, 0.5, 0.28, 0.52))
    assert [(each.text, each.score) for each in others] == [("tube", 0.5), ("seat", 0.5)]


def test_a_picture_has_no_words(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(a_jpeg())
    with Renderer(RenderLimits()) as renderer:
        assert from_bytes(renderer.render(str(path), 1, TARGET).words) == []


@pytest.mark.parametrize(
    "data",
    [b"", b"words", zlib.compress(b"{}x"), zlib.compress(b'[["a", 1]]'), zlib.compress(b"[1]")],
)
def test_what_is_no_file_of_words_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="ingest again"):
        from_bytes(data)


def test_a_bomb_of_words_is_not_unpacked() -> None:
    with pytest.raises(InvalidInput):
        from_bytes(zlib.compress(b"[" + b" " * (64 * 2**20) + b"]"))


def test_words_survive_being_written() -> None:
    words = [PageWord("日本", (0.0, 0.25, 0.5, 1.0)), PageWord('"x', (0.1, 0.2, 0.3, 0.4))]
    assert from_bytes(to_bytes(words)) == words


# Maps


def test_the_strongest_region_is_where_the_tokens_meet() -> None:
    tile = Tile(10, 8)
    similar = np.random.default_rng(0).normal(0, 0.05, (3, 80)).astype(np.float32)
    for token, (row, column) in enumerate(((4, 5), (4, 6), (5, 5))):
        similar[token, row * 8 + column] = 0.9
    similar[2] += 0.5  # a token that is everywhere alike says nothing
    found = of_tokens(["a", "b", "c"], similar, [tile])
    left, top, right, bottom = found.regions[0].box
    assert left <= 5 / 8 and right >= 7 / 8 and (top, bottom) == (4 / 10, 5 / 10)
    assert found.heat is not None
    assert found.heat.shape == (10, 8)
    assert found.heat.max() == pytest.approx(1)
    assert [token.text for token in found.tokens] == ["a", "b", "c"]
    assert found.tokens[1].box == (6 / 8, 4 / 10, 7 / 8, 5 / 10)


def test_quarters_are_painted_where_they_lie() -> None:
    boxes = ((0, 0, 1, 1), (0, 0, 0.5, 0.5), (0.5, 0, 1, 0.5), (0, 0.5, 0.5, 1), (0.5, 0.5, 1, 1))
    tiles = [Tile(4, 3, box) for box in boxes]
    similar = np.zeros((1, 60), np.float32)
    similar[0, 2 * 12 + 5] = 1.0  # in the quarter at the top right: row 1, column 2
    found = of_tokens(["a"], similar, tiles)
    assert found.heat is not None
    assert found.heat.shape == (8, 6)
    assert np.argwhere(found.heat == 1).tolist() == [[1, 3], [1, 4], [1, 5]]
    similar[0, 1] = 2.0  # and of the whole page: row 0, column 1
    heat = of_tokens(["a"], similar, tiles).heat
    assert heat is not None
    assert np.argwhere(heat == 1).tolist() == [[row, x] for row in (0, 1) for x in range(6)]


def test_a_page_that_is_alike_everywhere_has_no_region() -> None:
    assert of_tokens(["a"], np.full((1, 12), 0.3, np.float32), [Tile(3, 4)]).regions == []
    assert of_states(np.full((3, 4), 0.3, np.float32)).regions == []
    assert of_contributions(np.full((3, 4), -0.3, np.float32)).regions == []


def test_the_embedder_gives_a_map_of_the_page() -> None:
    embedder = Qwen3VLEmbedder(EmbedderOptions())
    similar = embedder.similarities(MultimodalInput(text="zebra"), a_jpeg(320, 640))
    assert similar.shape[0] == 2 * similar.shape[1]
    assert np.abs(similar).max() <= 1 + 1e-5
    assert np.isfinite(similar).all()


# Pictures


@pytest.mark.parametrize(
    "evidence",
    [
        of_words([PageWord("a", (0.5, 0.5, 0.75, 0.6))]),
        of_states(np.eye(6, dtype=np.float32)),
        Evidence("words"),
    ],
)
def test_the_overlay_is_the_page_with_marks_on_it(evidence: Evidence) -> None:
    png = overlay(a_jpeg(), evidence)
    with Image.open(io.BytesIO(png)) as image:
        assert (image.format, image.size) == ("PNG", (200, 300))
        pixels = np.asarray(image.convert("RGB")).astype(int)
    marked = (np.abs(pixels - 255).sum(axis=2) > 30).mean()
    assert marked == 0 if not evidence.regions else 0 < marked < 0.9


# The whole way


def test_the_strongest_region_falls_on_what_was_asked_for() -> None:
    """On made-up pages, far more often than chance; benchmarks/evidence.py has the rates."""
    model = ColPaliModel(LateInteractionOptions())
    hits: dict[str, int] = {"words": 0, "late-interaction": 0}
    pages = make_pages(24, seed=5)
    chance = 0.0
    for page, jpeg, words in rendered(pages):
        chance += area(page.place) / len(pages)
        hits["words"] += is_hit(of_words(matched_words(words, page.question)), page)
        hits["late-interaction"] += is_hit(late_evidence(model, page, jpeg, tiles=1), page)
    assert chance < 0.06
    assert hits["words"] == len(pages)
    assert hits["late-interaction"] > 4 * chance * len(pages), (hits, chance)
