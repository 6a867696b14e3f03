"""What replicas log: Ray Serve writes JSON lines with the ids of request and replica."""

import logging

from cluster.errors import QuireError

log = logging.getLogger("ray.serve")


def log_as_service() -> None:
    """Send what other rooms log where Ray Serve writes; refused requests are left out."""
    log.addFilter(_is_news)
    for room in ("cluster", "jobs", "models"):
        logging.getLogger(room).parent = log


def _is_news(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], QuireError))
