"""An ingest that is killed at work."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.settings import load_settings
from cluster.store.milvus import open_store
from tests.support.documents import a_document, save
from tests.support.faults import wait_until_quiet
from tests.support.paths import ROOT
from tests.support.ray_process import RayProcess


@pytest.mark.long
def test_an_interrupted_ingest_goes_on(tmp_path: Path, ray_process: RayProcess) -> None:
    """Killed at work and run again: no page is embedded twice, every page is there once."""
    ray_process.stop()  # it may run beside one, but takes its memory
    pages = 240
    save(a_document(*(f"Sheet {n} of the survey" for n in range(pages))), tmp_path / "survey.pdf")
    command = [sys.executable, "-m", "quire", "ingest", "survey.pdf", "--json"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stderr
        for line in first.stderr:
            if json.loads(line)["pages_done"] >= 16:
                first.send_signal(signal.SIGKILL)
                break
    settings = load_settings(store=str(tmp_path / "quire-data"))
    wait_until_quiet()
    with open_store(settings) as store:
        (document,) = store.documents()
        done = len(store.pages_present(document))
    assert document.status == "indexing"
    assert 16 <= done < pages
    report = ray_process.quire_json("ingest", "survey.pdf", folder=tmp_path)
    assert report["documents"][0]["state"] == "indexed"
    assert report["new_pages"] == pages - done
    with open_store(settings) as store:
        assert store.pages_present(document) == set(range(1, pages + 1))
        assert store.count_pages() == pages
