"""An ingest on a Ray of two machines, one of which leaves in the middle; prints what came of it.

`python -m tests.support.lost_node FOLDER`: the folder has the survey (tests/support/faults.py).
"""

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from cluster.settings import Settings, load_settings
from cluster.store.lite import MilvusLiteServer
from cluster.store.milvus import open_store
from jobs.ingest.request import IngestRequest
from jobs.ingest.run import run_ingest
from tests.support.faults import FAST, PAGES

HEALTH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 3,
}


def ingest(settings: Settings, source: str, leave: Any = None) -> dict[str, Any]:
    """Ingest the survey; calls `leave` once half of its pages can be found."""
    reports: list[Any] = []
    began = time.monotonic()
    request = IngestRequest((source,))
    thread = threading.Thread(target=lambda: reports.append(run_ingest(settings, request)))
    thread.start()
    with open_store(settings) as store:
        while leave and thread.is_alive():
            if store.count_pages() >= PAGES // 2:
                leave()
                leave = None
            time.sleep(0.05)
        thread.join()
        rows = store.client.count(store.required().pages, "")
        (document,) = store.documents()
        pages = len(store.pages_present(document))
    seconds = time.monotonic() - began
    return {
        "seconds": seconds,
        "left": leave is None,
        "pages": pages,
        "rows": rows,
        "states": dict(reports[0].states),
        "status": document.status,
    }


def main() -> None:
    """Ingest once with both machines to the end, and once with one of them leaving."""
    folder = Path(sys.argv[1])
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 6, "_system_config": HEALTH, "include_dashboard": False},
    )
    other = cluster.add_node(num_cpus=6)
    ray.init(address=cluster.address, log_to_driver=False)
    ray._private.worker._worker_logs_enabled = False
    server = MilvusLiteServer(folder / "milvus")
    options = {**FAST, "max_pixels": 65_536, "workers": 2, "render_workers": 2}

    def settings(name: str) -> Settings:
        return load_settings(
            store=server.uri,
            collection=name,
            shared_folder=str(folder / "shared"),
            page_images=f"file://{folder}/pages",
            **options,
        )

    source = str(folder / "survey.pdf")
    clean = ingest(settings("clean"), source)
    lost = ingest(
        settings("lost"), source, lambda: cluster.remove_node(other, allow_graceful=False)
    )
    print(json.dumps({"clean": clean, "lost": lost}))
    server.close()


if __name__ == "__main__":
    main()
