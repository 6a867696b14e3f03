"""The driver's account of an ingest: rows of the last stage come in, finished documents go out.

It alone decides that a document is done: when every page that was to be written has reported. What
has ended is finished in the store by a thread, as many documents together as came in meanwhile: the
slower the store, the more of them.
"""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace

from cluster.core import Document
from cluster.errors import QuireError
from jobs.ingest.finish import DocumentFinisher, Ending, Finish
from jobs.ingest.report import DocumentReport, IngestReport, ReportWriter, State
from jobs.ingest.rows import IN_THE_CONTENT, WHOSE, IngestRow, Outcome, PageWork

MAX_FINISHED = 256  # documents that are finished together


@dataclass
class Pending:
    """A document some of whose pages are still at work."""

    document: Document
    todo: int
    done: int = 0
    written: int = 0
    failed: dict[int, str] = field(default_factory=dict)  # reason and message by page
    damaged: int = 0  # of the failed: those that are damaged in themselves
    without_text: dict[int, str] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        return self.done >= self.todo

    @property
    def ending(self) -> Ending:
        """Return how the document ends, as far as its pages tell."""
        problems = [f"page {page}: {why}" for page, why in sorted(self.failed.items())]
        document = replace(self.document, status="indexed", error="; ".join(problems))
        pages = document.pages
        return Ending(document, pages=pages - len(self.failed), sound=pages - self.damaged)


Ended = tuple[str, Pending | Outcome]  # a source, and what became of its document


class Ledger:
    """Counts for the display, and the report."""

    def __init__(
        self,
        report: IngestReport,
        writer: ReportWriter,
        sources: list[str],
        finisher: DocumentFinisher,
    ) -> None:
        self.report = report
        self.documents = len(sources)
        self.documents_done = 0
        self.pages = 0
        self.pages_done = 0
        self.failures = 0
        self.began = 0.0
        self._writer = writer
        self._open_sources = dict.fromkeys(sources)
        self._pending: dict[str, Pending] = {}
        self._workers: set[str] = set()
        self._finisher = finisher
        self._ended: list[Ended] = []
        self._closing: set[str] = set()  # sources that have ended and are not finished yet
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="finisher")
        self._finishing: Future[list[DocumentReport]] | None = None

    @property
    def documents_opened(self) -> int:
        return self.documents_done + len(self._pending) + len(self._ended)

    @property
    def open_sources(self) -> list[str]:
        """Return the inputs that have not ended."""
        return list(self._open_sources)

    def record(self, row: IngestRow) -> None:
        """Enter what came out of the pipeline."""
        if row.source not in self._open_sources or row.source in self._closing:
            return  # of a run that was given up
        if isinstance(row, Outcome):
            self._enter_outcome(row)
            return
        pending = self._pending.get(row.source)
        if pending is None:
            pending = self._pending[row.source] = Pending(row.document, row.todo)
            self.pages += row.todo
        if isinstance(row, PageWork):
            self._enter_page(pending, row)
        if pending.is_done:
            self._end(row.source, self._pending.pop(row.source))

    def settle(self, *, wait: bool = False) -> None:
        """Have what has ended finished; `wait` until all of it is.

        Raises what the store raised.
        """
        while True:
            finishing = self._finishing
            if finishing is not None and (wait or finishing.done()):
                self._finishing = None
                for report in finishing.result():
                    self._add(report)
            if self._finishing is None and self._ended:
                together = self._ended[:MAX_FINISHED]
                self._ended = self._ended[MAX_FINISHED:]
                self._finishing = self._thread.submit(self._finish, together)
            if not wait or self._finishing is None:
                return

    def begin_again(self) -> None:
        """Drop what is known of documents that have not ended: they are checked once more."""
        self.settle(wait=True)
        for pending in self._pending.values():
            self.pages -= pending.todo
            self.pages_done -= pending.done
            self.failures -= len(pending.failed)
        self._pending.clear()

    def end_early(self) -> None:
        """Finish no more than what is being finished at this moment."""
        self._ended.clear()
        with suppress(QuireError):
            self.settle(wait=True)

    def close(self, why: str, message: str) -> None:
        """Enter what an ingest that ends early leaves: the store is not touched any more."""
        for source in list(self._open_sources):
            pending = self._pending.pop(source, None)
            new_pages = pending.written if pending else 0
            self._add(
                DocumentReport(source, "failed", reason=why, message=message, new_pages=new_pages)
            )
        self._thread.shutdown()

    def _enter_page(self, pending: Pending, page: PageWork) -> None:
        self.pages_done += 1
        pending.done += 1
        if page.reason:
            pending.failed[page.page] = f"{page.reason}: {page.message}"
            pending.damaged += page.reason in IN_THE_CONTENT
            self.failures += 1
            return
        pending.written += page.task == "page"
        if page.ocr_error:
            pending.without_text[page.page] = page.ocr_error
        self._enter_times(page)

    def _enter_times(self, page: PageWork) -> None:
        if page.embed_began:
            self.began = min(self.began or page.embed_began, page.embed_began)
            self.report.working_seconds = time.time() - self.began
        if page.worker:
            self._workers.add(page.worker)
        self.report.render_workers = len(self._workers)
        halved = self.report.halved_batch_tokens
        for model, tokens in page.halved_tokens.items():
            halved[model] = min(tokens, halved.get(model, tokens))
        for stage, seconds in page.seconds.items():
            self.report.stage_seconds[stage] += seconds

    def _enter_outcome(self, outcome: Outcome) -> None:
        self.failures += _state_of(outcome) == "failed"
        if outcome.replaces:
            self._end(outcome.source, outcome)
        else:
            self._add(_report_of_outcome(outcome))

    def _end(self, source: str, ended: Pending | Outcome) -> None:
        self._closing.add(source)
        self._ended.append((source, ended))

    def _finish(self, together: Sequence[Ended]) -> list[DocumentReport]:
        """Finish documents in the store; runs on the thread."""
        outcomes = [ended for _, ended in together if isinstance(ended, Outcome)]
        pendings = [(source, ended) for source, ended in together if isinstance(ended, Pending)]
        replaced = self._finisher.forget_replaced([each.document for each in outcomes])
        finishes = self._finisher.finish([pending.ending for _, pending in pendings])
        return [
            *map(_report_of_outcome, outcomes, replaced),
            *(
                _report_of_pages(source, pending, finish)
                for (source, pending), finish in zip(pendings, finishes, strict=True)
            ),
        ]

    def _add(self, report: DocumentReport) -> None:
        self._open_sources.pop(report.source, None)
        self._closing.discard(report.source)
        self.documents_done += 1
        self._writer.add(report)


def _state_of(outcome: Outcome) -> State:
    if outcome.reason:
        return "skipped" if outcome.document.status == "skipped" else "failed"
    return "updated" if outcome.updated else "unchanged"


def _report_of_outcome(outcome: Outcome, replaced: Sequence[Document] = ()) -> DocumentReport:
    document = outcome.document
    return DocumentReport(
        source=document.source,
        state=_state_of(outcome),
        doc_id=document.doc_id,
        reason=outcome.reason,
        message=outcome.message,
        pages=document.pages,
        replaced=[each.doc_id for each in replaced],
    )


def _report_of_pages(source: str, pending: Pending, finish: Finish) -> DocumentReport:
    document = finish.document
    if finish.owner != "ours":
        reason, message = WHOSE[finish.owner]
        return DocumentReport(source, "skipped", document.doc_id, reason, message, document.pages)
    is_indexed = document.status == "indexed"
    return DocumentReport(
        source=source,
        state="indexed" if is_indexed else "failed",
        doc_id=document.doc_id,
        reason="" if is_indexed else next(iter(pending.failed.values())).split(":")[0],
        message=document.error,
        pages=document.pages,
        new_pages=pending.written,
        failed_pages=pending.failed,
        pages_without_text=pending.without_text,
        replaced=[each.doc_id for each in finish.replaced],
    )
