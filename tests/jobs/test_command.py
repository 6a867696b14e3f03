"""Commands over what is indexed, with filters in their language."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cluster.store.milvus import MilvusStore, open_store
from jobs.command import app
from tests.support.store import FINGERPRINT, a_document, a_row, add, settings_in

YEARS = {1: 2019, 2: 2020.0, 3: 2024}


@pytest.fixture(scope="module")
def years(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store with a document of each year, and one without."""
    folder = tmp_path_factory.mktemp("years")
    with open_store(settings_in(folder)) as milvus:
        milvus.open_collection(FINGERPRINT)
        fill(milvus)
        yield folder


def fill(milvus: MilvusStore) -> None:
    for number in range(4):
        metadata: dict[str, Any] = {"year": YEARS[number]} if number in YEARS else {}
        add(milvus, a_row(a_document(number, metadata=metadata), text="common words"))


def sources(folder: Path, *arguments: str) -> set[str]:
    done = CliRunner().invoke(app, [*arguments, "--store", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    return {Path(row["source"]).stem for row in json.loads(done.stdout)}


@pytest.mark.parametrize(
    ("condition", "numbers"),
    [
        ('{"year": {"gte": 2020}}', {"2", "3"}),
        ('{"year": 2020}', {"2"}),
        ('{"not": {"year": {"any": [2019, 2024]}}}', {"0", "2"}),
        ("{}", {"0", "1", "2", "3"}),
    ],
)
def test_filters_of_documents_and_searches(years: Path, condition: str, numbers: set[str]) -> None:
    assert sources(years, "documents", "--filter", condition) == numbers
    search = ("search", "common", "--mode", "text", "--rerank", "none")
    assert sources(years, *search, "--filter", condition) == numbers
    assert sources(years, *search, "--filter", condition, "--meta", "year=2020") == numbers & {"2"}


def test_a_filter_that_is_wrong_is_one_line_that_says_where(years: Path) -> None:
    for command in (["documents"], ["search", "common", "--mode", "text"]):
        wrong = '{"year": {"from": 2020}}'
        done = CliRunner().invoke(app, [*command, "--filter", wrong, "--store", str(years)])
        assert done.exit_code == 2
        assert "InvalidInput: filter.year.from: there is no such test" in done.stderr


def test_a_search_by_words_alone_needs_no_model_and_no_ray(years: Path) -> None:
    words = ["search", "common", "--mode", "text", "--store", str(years), "--json"]
    code = (
        "import sys, quire\n"
        f"quire.app({words!r}, standalone_mode=False)\n"
        "heavy = ('torch', 'ray', 'transformers')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(json.loads(done.stdout)) == 4
    assert done.stderr.strip() == "[]"
