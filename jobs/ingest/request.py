"""What an ingest is asked to do, and that it was asked to stop."""

import uuid
from dataclasses import dataclass, field
from typing import Literal

from cluster.core import Scalar
from cluster.errors import QuireError

Stop = Literal["cancel", "pause"]


@dataclass(frozen=True)
class IngestRequest:
    """What to ingest, and what its rows shall carry.

    `reindex`: do unchanged documents again. `verify`: look at the bytes, the rows and the files of
    documents whose stamps say that they are unchanged. `is_job`: of the service, on files that only
    a deletion removes; a document that was deleted meanwhile is skipped. `is_listed`: `paths` are
    sources, and may be gone. `replaces`: ids of documents that are forgotten once the new ones are
    in.
    `ingest_id`: the same for an ingest that goes on.
    """

    paths: tuple[str, ...]
    pattern: str = ""
    tenant: str = ""
    tags: tuple[str, ...] = ()
    metadata: dict[str, Scalar] = field(default_factory=dict)
    reindex: bool = False
    verify: bool = False
    is_job: bool = False
    is_listed: bool = False
    replaces: tuple[str, ...] = ()
    ingest_id: str = field(default_factory=lambda: uuid.uuid4().hex)


class Stopped(QuireError):
    """The ingest was told to stop: for good ("cancel"), or to go on later ("pause")."""

    def __init__(self, stop: Stop) -> None:
        super().__init__("the ingest was stopped: run it again, and it goes on from there")
        self.stop = stop
