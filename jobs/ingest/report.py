"""What an ingest did: one named state for every input, and where the time went."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Literal, get_args

from jobs.report_file import ReportFile, read_entries

State = Literal["indexed", "updated", "unchanged", "skipped", "failed"]
STATES: tuple[State, ...] = get_args(State)
Stage = Literal["render", "ocr", "read", "embed", "write"]
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

    @classmethod
    def from_entry(cls, entry: dict[str, object]) -> "DocumentReport":
        """Return the report of a line of the report file."""
        document = cls(**entry)  # type: ignore[arg-type]
        document.failed_pages = {int(page): why for page, why in document.failed_pages.items()}
        document.pages_without_text = {
            int(page): why for page, why in document.pages_without_text.items()
        }
        return document


@dataclass
class IngestReport:
    """Everything an ingest did. Seconds of the stages are summed over all workers.

    The documents are in its file, a line each, written as they end: an ingest may have millions.
    `workers`: how many each stage had; one each unless it is told. `halved_batch_tokens`: models
    that ran out of memory, and the smaller budget of tokens that each went on with. `stuck`:
    workers that were replaced.
    """

    collection: str
    fingerprint: str
    file: str = ""
    states: Counter[State] = field(default_factory=Counter)
    new_pages: int = 0
    failed_pages: int = 0
    seconds: float = 0.0
    working_seconds: float = 0.0
    render_workers: int = 0
    workers: dict[Stage, int] = field(default_factory=dict)
    halved_batch_tokens: dict[str, int] = field(default_factory=dict)
    stuck: list[str] = field(default_factory=list)
    stage_seconds: dict[Stage, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    def count(self, document: DocumentReport) -> None:
        """Count the end of an input."""
        self.states[document.state] += 1
        self.new_pages += document.new_pages
        self.failed_pages += len(document.failed_pages)

    @property
    def documents(self) -> Iterator[DocumentReport]:
        """Yield the end of each input, from the report's file; none if it went with its tenant."""
        if not Path(self.file).is_file():
            return
        for entry in read_entries(Path(self.file)):
            if "source" in entry:
                yield DocumentReport.from_entry(entry)

    @property
    def pages_per_s(self) -> float:
        """Indexed pages a second, from the first page embedded to the last one written."""
        return self.new_pages / self.working_seconds if self.working_seconds else 0.0

    def busy_shares(self) -> dict[Stage, float]:
        """Return which share of the time each stage's workers were busy, the busiest first."""
        seconds: dict[Stage, float] = {}
        for stage, spent in self.stage_seconds.items():
            # OCR is done by those who render, as is reading where it has no workers of its own.
            own = stage in ("embed", "write") or stage in self.workers
            done_by: Stage = stage if own else "render"
            seconds[done_by] = seconds.get(done_by, 0.0) + spent
        had = self.working_seconds or 1.0
        # More than all: what was drawn before the first page was embedded counts, too.
        shares = {
            stage: min(1.0, spent / had / self.workers.get(stage, 1))
            for stage, spent in seconds.items()
        }
        return dict(sorted(shares.items(), key=lambda entry: -entry[1]))

    def summary(self) -> dict[str, object]:
        """Return the counts and times as JSON has them."""
        busy = {stage: round(share, 3) for stage, share in self.busy_shares().items()}
        counts = {"states": dict(self.states), "pages_per_s": round(self.pages_per_s, 2)}
        bottleneck = {"busy_shares": busy, "bottleneck": next(iter(busy))}
        return asdict(replace(self, states=Counter())) | counts | bottleneck

    def write_json(self, stream: IO[str]) -> None:
        """Write the whole report as one JSON object, a document at a time."""
        summary = json.dumps(self.summary(), ensure_ascii=False)
        stream.write(f'{summary[:-1]}, "documents": [')
        for number, document in enumerate(self.documents):
            text = json.dumps(asdict(document), ensure_ascii=False)
            escaped = text.encode(errors="backslashreplace").decode()  # names that are no UTF-8
            stream.write(f"{',' if number else ''}\n {escaped}")
        stream.write("\n]}\n")


class ReportWriter:
    """Counts the ends of inputs, and writes each down at once."""

    def __init__(self, report: IngestReport, folder: Path, tenant: str) -> None:
        self.report = report
        header = {"collection": report.collection, "fingerprint": report.fingerprint}
        self._file = ReportFile(folder, tenant, header)
        report.file = str(self._file.path)

    def add(self, document: DocumentReport) -> None:
        self.report.count(document)
        self._file.add(vars(document))  # asdict would take longer than all else

    def close(self) -> None:
        """Write the counts and times, as they stand now."""
        self._file.add({"summary": self.report.summary()})
        self._file.close()
