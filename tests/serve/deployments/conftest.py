"""A journal's folder, ingests that end well at once, and short pauses."""

from pathlib import Path
from typing import Any

import pytest

import serve.deployments.indexer
from cluster.settings import Settings, load_settings
from jobs.ingest.report import IngestReport
from jobs.ingest.request import IngestRequest
from tests.support.jobs import a_report


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve.deployments.indexer, "LOOK_S", 0.02)
    monkeypatch.setattr(serve.deployments.indexer, "RETRY_S", 0.02)
    monkeypatch.setattr(serve.deployments.indexer, "SAVE_INTERVAL_S", 0.0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(store=str(tmp_path / "store"))


@pytest.fixture
def folder(settings: Settings) -> Path:
    """The journal's folder."""
    path = settings.data_dir / "jobs"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The paths of every ingest that was run; each ends well at once."""
    done: list[tuple[str, ...]] = []

    def run(
        settings: Settings, request: IngestRequest, view: Any, ask_stop: Any, *_: Any
    ) -> IngestReport:
        done.append(request.paths)
        return a_report()

    monkeypatch.setattr(serve.deployments.indexer, "run_ingest", run)
    return done
