"""Report files of ingests: JSON lines, written as the ingest goes, so that none is lost with it.

The first line says what was ingested (with a digest of the tenant), then comes a line for each
input, and the last one counts. A file's name may be no UTF-8: half characters are escaped.
"""

import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cluster.ids import tenant_digest


class ReportFile:
    """One report, open for writing; every line is on its way to the disk when `add` returns."""

    def __init__(self, folder: Path, tenant: str, header: dict[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = time.strftime(f"ingest-%Y%m%d-%H%M%S-{os.getpid()}-{uuid.uuid4().hex[:6]}.jsonl")
        self.path = folder / name
        self._file = self.path.open("x", buffering=1)
        self.add({"tenant": tenant_digest(tenant), **header})

    def add(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry, ensure_ascii=False)
        self._file.write(line.encode(errors="backslashreplace").decode() + "\n")

    def close(self) -> None:
        self._file.close()


def read_entries(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a report; the last one may be missing where its ingest was killed."""
    with path.open() as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def remove_reports(folder: Path, tenant: str, collection: str) -> None:
    """Remove the reports of a tenant's ingests into a collection."""
    wanted = (tenant_digest(tenant), collection)
    for path in folder.glob("ingest-*.jsonl"):
        with path.open() as file:
            line = file.readline()
        header = json.loads(line) if line.endswith("\n") else {}
        if (header.get("tenant"), header.get("collection")) == wanted:
            path.unlink(missing_ok=True)
