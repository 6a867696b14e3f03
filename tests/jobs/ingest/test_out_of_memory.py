"""An ingest whose GPU runs out of memory."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.ingest.pipeline import EMBED_PAGES
from jobs.ingest.summary import print_report
from tests.support.documents import a_document, save
from tests.support.jobs import a_report
from tests.support.ray_process import RayProcess


def test_people_read_it_in_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(replace(a_report(), halved_batch_tokens={"quire-tiny": 4096}))
    assert "quire-tiny went on with batches of 4,096 tokens" in capsys.readouterr().out
    print_report(a_report())
    assert "out of memory" not in capsys.readouterr().out


INGEST = """
import json
import time
from pathlib import Path
import torch
import jobs.ingest.pipeline
import jobs.ingest.run
from cluster.runtime import ray_session
from cluster.errors import OutOfMemory
from cluster.store.milvus import MilvusStore, open_store
from unittest.mock import patch
from cluster.settings import load_settings
from jobs.ingest.embed import EmbedPages
from jobs.ingest.request import IngestRequest

class Tight(EmbedPages):
    "Its GPU refuses what is over half the budget."

    def __init__(self, job):
        super().__init__(job)
        self.most_tokens = job.settings.batch_tokens // 2
        forward = self._embedder.forward

        def limited(batch, rows=None):
            if sum(batch.lengths) > self.most_tokens:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return forward(batch, rows)

        self._embedder.forward = limited

class Short(Tight):
    "Its GPU refuses everything once pages of the first batch are in the store."
    calls = 0

    def __call__(self, batch):
        self.calls += 1
        if self.calls > 1:
            while not MilvusStore(self.context.address).count_pages():
                time.sleep(0.1)
            self.most_tokens = 0
        return super().__call__(batch)

def ingest(kind):
    try:
        changed = {"EmbedPages": kind, "WRITE_PAGES": 1, "EMBED_PAGES_CPU": 16}
        with patch.multiple(jobs.ingest.pipeline, **changed), ray_session(settings):
            report = jobs.ingest.run.run_ingest(settings, IngestRequest(("report.pdf",)))
        said = report.summary()
    except OutOfMemory as error:
        said = {"error": str(error)}
    (held,) = store.documents()
    print(json.dumps(said | {"status": held.status, "held": sorted(store.pages_present(held))}))

store = str(Path("quire-data").resolve())  # Ray's workers are in another folder
settings = load_settings(store=store, ocr="off", batch_tokens=8192, render_workers=1)
with open_store(settings) as store:
    ingest(Short)
    ingest(Tight)
"""


@pytest.mark.long
def test_an_ingest_that_runs_out_of_memory_loses_no_page(
    tmp_path: Path, ray_process: RayProcess
) -> None:
    """Twice: it ends, and the next one does what is left. Once: it goes on, and reports that."""
    text = "\n".join(f"line {n} of the report on bridges" for n in range(60))
    pages = 28
    save(a_document(*[text] * pages), tmp_path / "report.pdf")
    printed = ray_process.script(INGEST, tmp_path)
    twice, once = map(json.loads, printed.splitlines())
    assert "quire-tiny ran out of memory" in twice["error"] and "batch_tokens" in twice["error"]
    assert "Traceback" not in twice["error"]
    assert twice["status"] == "indexing" and 0 < len(twice["held"]) < pages
    assert once["status"] == "indexed" and once["held"] == list(range(1, pages + 1))
    # What was embedded may still be on its way to the store when the first one ends.
    assert pages - EMBED_PAGES <= once["new_pages"] <= pages - len(twice["held"])
    assert once["failed_pages"] == 0
    assert once["halved_batch_tokens"] == {"quire-tiny": 4096}
