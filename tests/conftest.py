"""The made-up library, indexed once, and one service over it, for every test that asks for them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.demo.library import write_library
from tests.support.serving import Server, quire, running


@pytest.fixture(scope="session")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The library's folder and a store in which it is indexed."""
    folder = tmp_path_factory.mktemp("serving")
    library, store = folder / "library", folder / "store"
    write_library(library)
    extras = ("--multi-vectors", "int8", "--quality", "on")
    quire("ingest", str(library), "--store", str(store), "--tag", "demo", "--json", *extras)
    return library, store


@pytest.fixture(scope="session")
def server(indexed: tuple[Path, Path]) -> Iterator[Server]:
    """`quire serve` on loopback, without keys."""
    library, store = indexed
    with running(library, store) as found:
        yield found
