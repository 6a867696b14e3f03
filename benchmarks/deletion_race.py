"""Delete a document in the midst of its ingest, many times: `python -m benchmarks.deletion_race`.

Each time a document of 150 pages is ingested and deleted once some of its pages can be found, at
another number of pages each time. Afterwards nothing of it may be there: no row, no file, no
document; and the report must say that it was deleted.
"""

import json
import random
import tempfile
import threading
import time
from pathlib import Path

import pymupdf
import typer

from cluster.core import Filter
from cluster.runtime import ray_session
from cluster.settings import Settings, load_settings
from cluster.store.milvus import MilvusStore, open_store
from jobs.forget import Forgetter
from jobs.ingest.report import IngestReport
from jobs.ingest.request import IngestRequest
from jobs.ingest.run import run_ingest
from jobs.progress import JsonLines

PAGES = 150


def main(times: int = 20, seed: int = 7) -> None:
    """Run the races; prints one line of JSON for each, and exits with 1 where anything is left."""
    choose = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="quire-race-") as name:
        folder = Path(name)
        settings = load_settings(store=str(folder / "data"), ocr="off", max_pixels=65_536)
        with ray_session(settings), open_store(settings) as store:
            races = [
                race(settings, store, folder, n, choose.randrange(PAGES)) for n in range(times)
            ]
    left = sum(each["rows"] + each["files"] + each["documents"] for each in races)
    print(json.dumps({"races": len(races), "left": left}))
    raise typer.Exit(1 if left else 0)


def race(
    settings: Settings, store: MilvusStore, folder: Path, number: int, at: int
) -> dict[str, int]:
    """Delete a document once `at` of its pages can be found; returns what is left of it."""
    path = folder / f"{number}.pdf"
    document = pymupdf.open()
    for page in range(PAGES):
        document.new_page(width=300, height=300).insert_text((20, 40), f"{page} of {number}")
    document.save(path)
    reports: list[IngestReport] = []

    def ingest() -> None:
        with open("/dev/null", "w") as nowhere:
            reports.append(run_ingest(settings, IngestRequest((str(path),)), JsonLines(nowhere)))

    thread = threading.Thread(target=ingest)
    thread.start()
    found = 0
    while thread.is_alive() and (found := store.count_pages(Filter())) <= at:
        time.sleep(0.01)
    for each in store.documents():
        Forgetter(settings, store).forget(each)
    thread.join()
    (end,) = reports[0].documents
    files = [each for each in (settings.data_dir / "pages").rglob("*") if each.is_file()]
    outcome = {
        "deleted_at": found,
        "rows": store.client.count(store.required().pages, ""),
        "files": len(files),
        "documents": len(store.documents()),
    }
    print(json.dumps(outcome | {"state": end.state, "reason": end.reason}), flush=True)
    return outcome


if __name__ == "__main__":
    typer.run(main)
