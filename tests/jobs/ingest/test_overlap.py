"""An embedding worker encodes pages while others are computed, and multi-vectors are apart."""

import json
from pathlib import Path

import pytest

from tests.support.documents import a_document, save
from tests.support.ray_process import RayProcess

INGEST = """
import json
import os
import threading
from pathlib import Path
from unittest.mock import patch

import jobs.ingest.pipeline
import jobs.ingest.run
from cluster.runtime import ray_session
from cluster.settings import load_settings
from cluster.store.milvus import open_store
from jobs.ingest.embed import EmbedPages
from jobs.ingest.read import ReadPages
from jobs.ingest.request import IngestRequest

FOLDER = Path("quire-data").resolve()

class Overlapping(EmbedPages):
    "Its first forward ends when pages of another call have been encoded, and not before."

    def __init__(self, context):
        super().__init__(context)
        (FOLDER / "embedding").write_text(str(os.getpid()))
        self.computing = threading.Event()
        self.encoded = threading.Event()
        forward, encode = self._embedder.forward, self._embedder.encode

        def waiting(batch, rows=None):
            self.computing.set()
            assert self.encoded.wait(60), "nothing was encoded meanwhile"
            return forward(batch, rows)

        def noted(item):
            item = encode(item)
            if self.computing.is_set():
                self.encoded.set()
            return item

        self._embedder.forward, self._embedder.encode = waiting, noted

class Reading(ReadPages):
    def __init__(self, context):
        super().__init__(context)
        (FOLDER / "reading").write_text(str(os.getpid()))

FOLDER.mkdir()
settings = load_settings(
    store=str(FOLDER), ocr="off", render_workers=1, max_pixels=16_384, multi_vectors=MULTI_VECTORS
)
changed = {"EmbedPages": Overlapping, "ReadPages": Reading}
with patch.multiple(jobs.ingest.pipeline, **changed), ray_session(settings):
    report = jobs.ingest.run.run_ingest(settings, IngestRequest(("report.pdf",)))
files = list(FOLDER.rglob("*.npz"))
pids = {name: (FOLDER / name).exists() and (FOLDER / name).read_text()
        for name in ("embedding", "reading")}
print(json.dumps([report.summary(), len(files), pids]))
"""


@pytest.mark.long
@pytest.mark.parametrize("multi_vectors", ["off", "int8"])
def test_calls_of_a_worker_overlap(
    tmp_path: Path, ray_process: RayProcess, multi_vectors: str
) -> None:
    save(a_document(*(f"Sheet {n}" for n in range(24))), tmp_path / "report.pdf")
    script = INGEST.replace("MULTI_VECTORS", repr(multi_vectors))
    summary, files, pids = json.loads(ray_process.script(script, tmp_path))
    assert summary["new_pages"] == 24 and summary["failed_pages"] == 0
    assert files == (24 if multi_vectors != "off" else 0)
    assert pids["embedding"] != pids["reading"]  # a process of its own …
    assert bool(pids["reading"]) == (multi_vectors != "off")  # … where there is one
