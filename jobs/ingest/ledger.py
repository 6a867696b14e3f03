"""The driver's account of an ingest: rows of the last stage come in, finished documents go out.

It alone decides that a document is done: when every page that was to be written has reported.
"""

import time
from dataclasses import dataclass, field, replace

from cluster.core import Document
from jobs.ingest.finish import DocumentFinisher
from jobs.ingest.report import DocumentReport, IngestReport, ReportWriter, State
from jobs.ingest.rows import IN_THE_CONTENT, WHOSE, IngestRow, Outcome, PageWork, Shard


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

    @property
    def documents_opened(self) -> int:
        return self.documents_done + len(self._pending)

    @property
    def open_sources(self) -> list[str]:
        """Return the inputs that have not ended."""
        return list(self._open_sources)

    def record(self, row: IngestRow) -> None:
        """Enter what came out of the pipeline."""
        if row.source not in self._open_sources:
            return  # of a run that was given up
        if isinstance(row, Outcome):
            self._close_at_once(row)
            return
        pending = self._pending.get(row.source)
        if pending is None:
            pending = self._pending[row.source] = Pending(row.document, row.todo)
            self.pages += row.todo
        if isinstance(row, PageWork):
            self._enter_page(pending, row)
        if pending.is_done:
            self._close(row, pending)

    def begin_again(self) -> None:
        """Drop what is known of documents that have not ended: they are checked once more."""
        for pending in self._pending.values():
            self.pages -= pending.todo
            self.pages_done -= pending.done
            self.failures -= len(pending.failed)
        self._pending.clear()

    def close(self, why: str, message: str) -> None:
        """Enter what an ingest that ends early leaves: the store is not touched any more."""
        for source in list(self._open_sources):
            pending = self._pending.pop(source, None)
            new_pages = pending.written if pending else 0
            self._add(
                DocumentReport(source, "failed", reason=why, message=message, new_pages=new_pages)
            )

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

    def _close_at_once(self, outcome: Outcome) -> None:
        document = outcome.document
        state: State = "updated" if outcome.updated else "unchanged"
        if outcome.reason:
            state = "skipped" if document.status == "skipped" else "failed"
            self.failures += state == "failed"
        replaced = self._finisher.forget_replaced(document) if outcome.is_indexed else []
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

    def _close(self, row: Shard | PageWork, pending: Pending) -> None:
        self._pending.pop(row.source)
        document, failed = pending.document, pending.failed
        problems = [f"page {page}: {why}" for page, why in sorted(failed.items())]
        ended = replace(document, status="indexed", error="; ".join(problems))
        finish = self._finisher.finish(
            ended, pages=document.pages - len(failed), sound=document.pages - pending.damaged
        )
        is_indexed = finish.document.status == "indexed"
        report = DocumentReport(
            source=row.source,
            state="indexed" if is_indexed else "failed",
            doc_id=document.doc_id,
            reason="" if is_indexed else next(iter(failed.values())).split(":")[0],
            message=finish.document.error,
            pages=document.pages,
            new_pages=pending.written,
            failed_pages=failed,
            pages_without_text=pending.without_text,
            replaced=list(finish.replaced),
        )
        if finish.owner != "ours":
            reason, message = WHOSE[finish.owner]
            report = DocumentReport(
                row.source, "skipped", document.doc_id, reason, message, document.pages
            )
        self._add(report)

    def _add(self, report: DocumentReport) -> None:
        self._open_sources.pop(report.source, None)
        self.documents_done += 1
        self._writer.add(report)
