"""Where on a page the answer is: maps and regions."""

import numpy as np
import pytest

from benchmarks.evidence import area, is_hit, late_evidence, make_pages, rendered
from cluster.pages.vectors import Tile
from cluster.pages.words import PageWord, matched_words
from models.evidence.regions import of_contributions, of_states, of_tokens, of_words
from models.inputs import MultimodalInput
from models.late_interaction.model import ColPaliModel
from models.options import EmbedderOptions, LateInteractionOptions
from models.qwen3_vl.embedder import Qwen3VLEmbedder
from tests.support.documents import a_jpeg


def test_words_beside_each_other_are_one_region() -> None:
    def at(text: str, left: float, top: float) -> PageWord:
        return PageWord(text, (left, top, left + 0.08, top + 0.02))

    words = [at("tube", 0.1, 0.1), at("seat", 0.1, 0.5), at("tube", 0.2, 0.5), at("seat", 0.8, 0.5)]
    first, *others = of_words(words).regions
    assert (first.text, first.score) == ("seat tube", 1.0)
    assert first.box == pytest.approx((0.1, 0.5, 0.28, 0.52))
    assert [(each.text, each.score) for each in others] == [("tube", 0.5), ("seat", 0.5)]


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


@pytest.mark.services
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
