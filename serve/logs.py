"""What replicas log: Ray Serve writes JSON lines with the ids of request and replica."""

import logging

from cluster.errors import QuireError

log = logging.getLogger("ray.serve")


def leave_out_refusals() -> None:
    """A request that was refused is an answer: no traceback for each of them."""
    log.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], QuireError))
