"""Collections of other formats: an older one is written to and upgraded, a newer one refused.

The archive in tests/support/stores was made by Quire 0.1.0 (commit 8bc0311): two documents with
multi-vectors and expected CERs.
"""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cluster.core import Filter, Fingerprint, Hit, Query, Row, Scalar
from cluster.errors import FormatMismatch, InvalidInput, NotFound
from cluster.pages.files import PageFiles
from cluster.settings import Settings, load_settings
from cluster.store import schema
from cluster.store.client import Client
from cluster.store.format import FORMAT, describe_format, pages_name
from cluster.store.layout import Layout
from cluster.store.milvus import MilvusStore, open_store
from cluster.store.upgrade import upgrade_collection
from jobs.collections.copy import copy_collection
from jobs.collections.drop import drop_collection
from models.retrieval.local import open_retriever
from quire import app
from tests.support.collections import without_text_scores
from tests.support.store import remove

pytestmark = pytest.mark.services

ARCHIVE = Path(__file__).parents[2] / "support" / "stores" / "quire-0.1.0.tar.gz"
FINGERPRINT = Fingerprint("model-a", "0123", "fp32", "last", 4, 65_536, "Represent.", "image")


@pytest.fixture
def older(tmp_path: Path) -> Settings:
    """The settings of a store that Quire 0.1.0 made."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return load_settings(store=str(tmp_path / "store"), ocr="off", rerank="late-interaction")


@pytest.fixture
def store(older: Settings) -> Iterator[MilvusStore]:
    with open_store(older) as store:
        yield store


def hits_of(settings: Settings) -> list[Hit]:
    with open_retriever(settings) as retriever:
        return retriever.hits(Query("seat tube", filter=Filter(tags=("workshop",))), settings)


def a_row(store: MilvusStore, **readings: Scalar) -> Row:
    """A page of a third document, as today's Quire writes it."""
    (document, *_) = store.documents()
    added = replace(document, doc_id="0" * 32, title="Added", pages=1)
    store.put_document(added)
    vector = np.ones(store.stored().fingerprint.dimension, np.float32)  # type: ignore[union-attr]
    return Row(added, 1, 0, "a spoke key", vector, 640, 832, readings)


def text_hits(store: MilvusStore, text: str) -> list[Hit]:
    return store.search(vector=None, text=text, wanted=Filter(), mode="text", top_k=5)


def test_an_older_store_is_searched_and_written_to_as_it_is(
    older: Settings, store: MilvusStore
) -> None:
    stored = store.stored()
    assert stored is not None and stored.format == 1 and not stored.can_grow
    assert (store.count_pages(), store.count_documents("indexed")) == (4, 2)
    first = hits_of(older)[0]
    assert first.title == "Bicycle and roaster" and first.page == 1
    assert first.maxsim is not None and first.expected_cer is not None
    store.write_rows([a_row(store, expected_cer=0.5)])
    assert text_hits(store, "spoke key")[0].expected_cer == 0.5
    with pytest.raises(FormatMismatch, match="quire upgrade"):
        store.check_columns(["ink_share"])


def test_an_upgrade_keeps_every_row_and_embeds_nothing(older: Settings, store: MilvusStore) -> None:
    documents, hits = store.documents(), hits_of(older)
    steps: list[tuple[int, int]] = []
    upgrade = upgrade_collection(store.address, lambda *step: steps.append(step))
    assert (upgrade.format_before, upgrade.format, upgrade.rows) == (1, FORMAT, 8)
    assert steps[-1] == (8, 8)
    assert store.documents() == documents
    assert without_text_scores(hits_of(older)) == without_text_scores(hits)
    store.check_columns(["ink_share"])
    row = a_row(store, ink_share=0.25)
    store.write_rows([row])
    assert store.readings(row.document, ["ink_share"]) == {1: {"ink_share": 0.25}}
    assert store.readings(documents[0], ["ink_share"]) == {}
    assert upgrade_collection(store.address).rows == 0


def test_an_interrupted_upgrade_leaves_the_older_collection_in_charge(
    older: Settings, store: MilvusStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    hits = hits_of(older)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upgrade_collection(store.address, interrupt)
    assert store.stored().format == 1 and hits_of(older) == hits  # type: ignore[union-attr]
    assert upgrade_collection(store.address).rows == 8
    assert without_text_scores(hits_of(older)) == without_text_scores(hits)


def test_what_is_forgotten_between_two_tries_of_an_upgrade_stays_gone(store: MilvusStore) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upgrade_collection(store.address, interrupt)
    gone, *kept = store.documents()
    assert remove(store, gone) > 0
    upgrade_collection(store.address)
    assert store.documents() == kept
    assert store.pages_present(gone) == set() and text_hits(store, gone.title) == []


def test_while_documents_are_being_indexed_nothing_is_upgraded(store: MilvusStore) -> None:
    (document, *_) = store.documents()
    store.put_document(replace(document, status="indexing"))
    with pytest.raises(InvalidInput, match="are being indexed"):
        upgrade_collection(store.address)


def test_a_newer_format_is_a_clear_error(store: MilvusStore) -> None:
    newer = store.collection("newer")
    client = Client(store.address)
    description = describe_format(FINGERPRINT)
    client.create(pages_name("newer", FORMAT + 1), *schema.rows_schema(4, description, Layout()))
    for call in (newer.fingerprint, lambda: newer.open_collection(FINGERPRINT), newer.documents):
        with pytest.raises(FormatMismatch, match=f"format {FORMAT + 1}"):
            call()
    with pytest.raises(FormatMismatch, match="newer Quire"):
        upgrade_collection(newer.address)
    assert set(store.collections()) == {"quire"}  # the newer one is left out, and hides no other


def test_what_is_not_there_or_not_ours_is_said(store: MilvusStore) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        upgrade_collection(store.collection("nowhere").address)
    Client(store.address).create("foreign_pages", *schema.rows_schema(4, json.dumps([1]), Layout()))
    with pytest.raises(InvalidInput, match="not Quire's"):
        store.collection("foreign").fingerprint()


def test_a_collection_that_lacks_fields_can_be_upgraded(
    older: Settings, store: MilvusStore
) -> None:
    early = store.collection("early")
    fields, index = schema.rows_schema(4, FINGERPRINT.to_json(), Layout())
    fields._fields = [field for field in fields.fields if field.name != "expected_cer"]
    fields._enable_dynamic_field = False
    client = Client(store.address)
    client.create("early_pages", fields, index)
    client.create("early_documents", *schema.documents_schema(Layout()))
    with pytest.raises(FormatMismatch, match="quire upgrade"):
        early.open_collection(FINGERPRINT)
    done = CliRunner().invoke(app, ["status", "--store", older.store, "--json"])
    rows = {row["collection"]: row for row in json.loads(done.stdout)}
    assert rows["quire"]["pages"] == 4  # one that cannot be read hides no other
    assert "quire upgrade" in rows["early"]["model"]
    upgrade_collection(early.address)
    early.open_collection(FINGERPRINT)
    assert early.count_pages() == 0


def test_an_older_collection_is_copied_with_the_files_of_its_time(
    older: Settings, store: MilvusStore
) -> None:
    hits = hits_of(older)
    copied = copy_collection(older, "quire", "today")
    assert (copied.documents, copied.rows) == (2, 8) and copied.files > 0
    today = older.model_copy(update={"collection": "today"})
    assert store.collection("today").stored().format == FORMAT  # type: ignore[union-attr]
    copies = hits_of(today)  # by its own multi-vectors
    assert without_text_scores(copies) == without_text_scores(hits)
    drop_collection(older, "quire")
    assert hits_of(today) == copies
    (document, *_) = store.collection("today").documents()
    assert PageFiles.from_settings(today).has_former(document)  # it may need them still
    drop_collection(older, "today")
    assert not PageFiles.from_settings(today).has_former(document)
