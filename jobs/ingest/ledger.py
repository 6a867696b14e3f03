"""The driver's account of an ingest: rows of the last stage come in, finished documents go out.

It alone decides that a document is done: when every page that was to be written has reported.
"""

import time
from dataclasses import dataclass, field, replace

from cluster.core import Document
from jobs.ingest.finish import DocumentFinisher
from jobs.ingest.report import DocumentReport, IngestReport, State
from jobs.ingest.rows import IngestRow, Outcome, PageWork


@dataclass
class Pending:
    """A document some of whose pages are still at work."""

    document: Document
    todo: int
    written: int = 0
    failed: dict[int, str] = field(default_factory=dict)
    without_text: dict[int, str] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        return self.written + len(self.failed) >= self.todo


class Ledger:
    """Counts for the display, and the report."""

    def __init__(
        self, report: IngestReport, sources: list[str], finisher: DocumentFinisher
    ) -> None:
        self.report = report
        self.documents = len(sources)
        self.documents_done = 0
        self.pages = 0
        self.pages_done = 0
        self.failures = 0
        self.began = 0.0
        self._open_sources = dict.fromkeys(sources)
        self._pending: dict[str, Pending] = {}
        self._workers: set[str] = set()
        self._finisher = finisher

    @property
    def documents_opened(self) -> int:
        return self.documents_done + len(self._pending)

    def record(self, row: IngestRow) -> None:
        """Enter what came out of the pipeline."""
        if isinstance(row, Outcome):
            self._close_at_once(row)
            return
        pending = self._pending.get(row.document.source)
        if pending is None:
            pending = self._pending[row.document.source] = Pending(row.document, row.todo)
            self.pages += row.todo
        if isinstance(row, PageWork):
            self._enter_page(pending, row)
        if pending.is_done:
            self._close(pending)

    def close(self) -> None:
        """Enter what an ingest that ends early leaves: the store is not touched any more."""
        for source in list(self._open_sources):
            pending = self._pending.pop(source, None)
            self._add(
                DocumentReport(
                    source,
                    "failed",
                    reason="interrupted",
                    message="ingest it again: pages that are done are kept",
                    new_pages=pending.written if pending else 0,
                )
            )

    def _enter_page(self, pending: Pending, page: PageWork) -> None:
        self.pages_done += 1
        if page.reason:
            pending.failed[page.page] = f"{page.reason}: {page.message}"
            self.failures += 1
            return
        pending.written += 1
        if page.ocr_error:
            pending.without_text[page.page] = page.ocr_error
        self.began = min(self.began or page.embed_began, page.embed_began)
        self.report.working_seconds = time.time() - self.began
        self._workers.add(page.worker)
        self.report.render_workers = len(self._workers)
        halved = self.report.halved_batch_tokens
        for model, tokens in page.halved_tokens.items():
            halved[model] = min(tokens, halved.get(model, tokens))
        for stage, seconds in page.seconds.items():
            self.report.stage_seconds[stage] += seconds

    def _close_at_once(self, outcome: Outcome) -> None:
        document = outcome.document
        state: State = "unchanged"
        if outcome.reason:
            state = "skipped" if document.status == "skipped" else "failed"
            self.failures += state == "failed"
        unchanged = state == "unchanged"
        replaced = self._finisher.forget_replaced(document) if unchanged else []
        self._add(
            DocumentReport(
                source=document.source,
                state=state,
                doc_id=document.doc_id,
                reason=outcome.reason,
                message=outcome.message,
                pages=document.pages,
                replaced=replaced,
            )
        )

    def _close(self, pending: Pending) -> None:
        self._pending.pop(pending.document.source)
        document, failed = pending.document, pending.failed
        present = document.pages - len(failed)
        problems = [f"page {page}: {why}" for page, why in sorted(failed.items())]
        done = replace(
            document, status="indexed" if present else "failed", error="; ".join(problems)
        )
        self._add(
            DocumentReport(
                source=document.source,
                state="indexed" if present else "failed",
                doc_id=document.doc_id,
                reason="" if present else next(iter(failed.values())).split(":")[0],
                message="; ".join(problems),
                pages=document.pages,
                new_pages=pending.written,
                failed_pages=failed,
                pages_without_text=pending.without_text,
                replaced=self._finisher.finish(done, present),
            )
        )

    def _add(self, report: DocumentReport) -> None:
        self._open_sources.pop(report.source, None)
        self.documents_done += 1
        self.report.documents.append(report)
