"""A folder of good and bad documents, ingested once."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymupdf
import pytest
from PIL import Image

from cluster.core import Hit
from cluster.settings import load_settings
from models.retrieval.local import open_retriever
from tests.support.documents import ENGLISH, JAPANESE, a_document, save
from tests.support.ingest import KOREAN, LIMITS, REFUSED, scanned
from tests.support.ray_process import RayProcess


@pytest.fixture(scope="package")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good documents, every kind of bad one, and an index of it all."""
    folder = tmp_path_factory.mktemp("library")
    pdfs = folder / "pdfs"
    (pdfs / "deeper").mkdir(parents=True)
    save(a_document(ENGLISH, JAPANESE), pdfs / "invoice.pdf")
    save(a_document(KOREAN, font="korea"), pdfs / "deeper" / "receipt.pdf")
    save(a_document(*(f"Chapter {n} of the gearbox manual" for n in range(1, 31))), pdfs / "m.pdf")
    with pymupdf.open(pdfs / "invoice.pdf") as document:
        scan = document[0].get_pixmap(dpi=150)
        Image.frombytes("RGB", (scan.width, scan.height), scan.samples).save(pdfs / "scan.png")
    lines = [f"Sheet {n} of the survey\n" * 24 for n in range(12)]
    sheets_of_text = a_document(*lines, width=842, height=595)
    save(scanned(sheets_of_text), pdfs / "slow.pdf", deflate=True)
    sheets = [Image.new("RGB", (320, 240), colour) for colour in ("white", "navy", "olive")]
    sheets[0].save(pdfs / "fax.tiff", save_all=True, append_images=sheets[1:])
    (pdfs / "copy.pdf").write_bytes((pdfs / "deeper" / "receipt.pdf").read_bytes())
    for name, (write, _, _) in REFUSED.items():
        write(pdfs / name)
    return folder


@pytest.fixture(scope="package")
def report(library: Path, ray_process: RayProcess) -> Any:
    return ray_process.quire_json(
        "ingest", "pdfs", "--tag", "tests", "--meta", "year=2026", "--tenant", "acme",
        folder=library, expect=1, **LIMITS,
    )  # fmt: skip


@pytest.fixture(scope="package")
def search(library: Path, report: Any) -> Iterator[Callable[..., list[Hit]]]:
    """Searches the index with one loaded embedder; `options` are settings."""
    store = str(library / "quire-data")
    with open_retriever(load_settings(store=store)) as retriever:
        yield lambda query, **options: retriever.hits(query, load_settings(store=store, **options))
