"""What an ingest did: one named state for every input, and where the time went."""

import json
import os
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, get_args

State = Literal["indexed", "unchanged", "skipped", "failed"]
Stage = Literal["render", "ocr", "embed", "write"]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass
class DocumentReport:
    """The end of one input. `pages` counts all of its pages, `new_pages` those indexed now."""

    source: str
    state: State
    doc_id: str = ""
    reason: str = ""
    message: str = ""
    pages: int = 0
    new_pages: int = 0
    failed_pages: dict[int, str] = field(default_factory=dict)
    pages_without_text: dict[int, str] = field(default_factory=dict)
    replaced: list[str] = field(default_factory=list)


@dataclass
class IngestReport:
    """Everything an ingest did. Seconds of the stages are summed over all workers.

    `halved_batch_tokens`: models that ran out of memory, and the smaller budget of tokens that each
    went on with.
    """

    collection: str
    fingerprint: str
    documents: list[DocumentReport] = field(default_factory=list)
    seconds: float = 0.0
    working_seconds: float = 0.0
    render_workers: int = 0
    halved_batch_tokens: dict[str, int] = field(default_factory=dict)
    file: str = ""
    stage_seconds: dict[Stage, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    @property
    def states(self) -> dict[State, int]:
        """Count the inputs that ended in each state."""
        return dict(Counter(document.state for document in self.documents))

    @property
    def new_pages(self) -> int:
        return sum(document.new_pages for document in self.documents)

    @property
    def failed_pages(self) -> int:
        return sum(len(document.failed_pages) for document in self.documents)

    @property
    def pages_per_s(self) -> float:
        """Indexed pages a second, from the first page embedded to the last one written."""
        return self.new_pages / self.working_seconds if self.working_seconds else 0.0

    def to_json(self) -> str:
        text = json.dumps(
            {
                **asdict(self),
                "states": self.states,
                "new_pages": self.new_pages,
                "failed_pages": self.failed_pages,
                "pages_per_s": round(self.pages_per_s, 2),
            },
            ensure_ascii=False,
            indent=1,
        )
        return text.encode(errors="backslashreplace").decode()  # a file's name may be no UTF-8

    def save(self, folder: Path) -> Path:
        """Write the report as JSON into a folder, under the time of its writing."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / time.strftime(f"ingest-%Y%m%d-%H%M%S-{os.getpid()}.json")
        file.write_text(self.to_json())
        return file
