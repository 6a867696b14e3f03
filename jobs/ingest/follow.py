"""Follow folders: what is new or changed in them is ingested as it comes."""

import logging
import time
from collections.abc import Iterator
from dataclasses import replace

from cluster.errors import FilesUnavailable, NotFound, StoreUnavailable
from cluster.runtime import ray_session
from cluster.settings import Settings
from cluster.sources import list_sources, stamp_of
from jobs.ingest.report import IngestReport
from jobs.ingest.request import IngestRequest
from jobs.ingest.run import run_ingest
from jobs.ray_data import WorkersLost

Stamps = dict[str, str]  # by source
log = logging.getLogger(__name__)


def follow_folders(
    settings: Settings, request: IngestRequest, every_s: float
) -> Iterator[IngestReport]:
    """Ingest what is there, then what comes; yields a report each time. Ends when it is closed.

    A file is taken once it has stayed the same from one look to the next: one that is being copied
    is not. One Ray stays up all the time. Where the store or the disk is away, it tries again;
    raises what else `run_ingest` raises.
    """
    known: Stamps = {}
    with ray_session(settings):
        before = settled = _stamps(request)
        while True:
            changed = tuple(sorted(set(settled.items()) - set(known.items())))
            if changed:
                paths = tuple(source for source, _ in changed)
                listed = replace(request, paths=paths, pattern="", is_listed=True)
                try:
                    report = run_ingest(settings, listed)
                except (StoreUnavailable, FilesUnavailable, WorkersLost) as error:
                    log.warning("%s; trying again", error)
                    settled = {}
                else:
                    yield report
            known |= settled
            time.sleep(every_s)
            now = _stamps(request)
            settled = dict(set(now.items()) & set(before.items()))
            before = now


def _stamps(request: IngestRequest) -> Stamps:
    """Return the stamps of what is there now; a folder that is away for a moment has nothing."""
    stamps: Stamps = {}
    try:
        sources = list_sources(request.paths, request.pattern)
    except NotFound:
        return stamps
    for source in sources:
        try:
            stamps[source] = stamp_of(source)
        except OSError:
            continue  # it went again
    return stamps
