"""A filled store with keys and jobs, and a backup of it, for tests that only read them."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.settings import Settings
from cluster.store.milvus import MilvusStore, open_store
from jobs.backup.write import make_backup
from jobs.journal import JobRequest, Journal
from serve.auth.keys import KeyRing
from tests.support.collections import fill, settings_of
from tests.support.jobs import an_id


@dataclass(frozen=True)
class Original:
    """A store that was backed up into `backup`."""

    store: MilvusStore
    settings: Settings
    backup: Path


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("original")


@pytest.fixture(scope="package")
def milvus(folder: Path) -> Iterator[MilvusStore]:
    with open_store(settings_of(folder)) as store:
        yield store


@pytest.fixture(scope="package")
def original(
    folder: Path, milvus: MilvusStore, tmp_path_factory: pytest.TempPathFactory
) -> Original:
    settings = settings_of(folder)
    documents = fill(milvus, settings)
    other = settings.model_copy(update={"collection": "other"})
    fill(milvus.collection("other"), other)
    KeyRing(settings.keys_path).create("acme", ("search",))
    upload = next(each.source for each in documents if "uploads" in each.source)
    Journal(folder / "jobs").new(an_id(), JobRequest("ingest", "acme", (upload, "/else/b.pdf")))
    backup = tmp_path_factory.mktemp("backup") / "today"
    make_backup(settings, str(backup))
    return Original(milvus, settings, backup)


@pytest.fixture
def copy_of_backup(original: Original, tmp_path: Path) -> Path:
    """A backup that a test may damage."""
    return Path(shutil.copytree(original.backup, tmp_path / "copy"))


@pytest.fixture(scope="package")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MilvusStore, Settings]]:
    """Another store, empty but for what tests leave under names of their own."""
    folder = tmp_path_factory.mktemp("target")
    settings = settings_of(folder)
    with open_store(settings) as store:
        yield store, settings


def change_manifest(backup: Path, **changes: object) -> None:
    file = backup / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
