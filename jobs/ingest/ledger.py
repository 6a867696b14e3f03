"""The driver's book of an ingest: outcomes come in, finished documents go out.

It alone decides that a document is done: when every page that was to be written has reported.
"""

import time
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from cluster.core import Document
from jobs.ingest.report import STAGES, DocumentReport, IngestReport, State
from jobs.ingest.stages import to_document


class Shelf(Protocol):
    """Where the ledger puts documents that are done; each call returns the ids it replaced."""

    def finish(self, document: Document, pages: int) -> list[str]:
        """Store the last word on a document of which `pages` pages must be in the index."""
        ...

    def keep(self, document: Document) -> list[str]:
        """Note that an unchanged document is what its source holds now."""
        ...


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

    def __init__(self, report: IngestReport, sources: list[str], shelf: Shelf) -> None:
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
        self._shelf = shelf

    @property
    def documents_opened(self) -> int:
        return self.documents_done + len(self._pending)

    def record(self, event: str, work: dict[str, Any]) -> None:
        """Enter one outcome of the pipeline."""
        document = to_document(work["document"])
        if event in ("unchanged", "refused"):
            self._close_at_once(document, work)
            return
        pending = self._pending.get(document.source)
        if pending is None:
            pending = self._pending[document.source] = Pending(document, work["todo"])
            self.pages += work["todo"]
        if event == "page":
            self._enter_page(pending, work)
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

    def _enter_page(self, pending: Pending, work: dict[str, Any]) -> None:
        self.pages_done += 1
        if work["reason"]:
            pending.failed[work["page"]] = f"{work['reason']}: {work['message']}"
            self.failures += 1
            return
        pending.written += 1
        if work["ocr_error"]:
            pending.without_text[work["page"]] = work["ocr_error"]
        self.began = min(self.began or work["embed_began"], work["embed_began"])
        self.report.working_seconds = time.time() - self.began
        self._workers.add(work["worker"])
        self.report.render_workers = len(self._workers)
        halved = self.report.halved_batch_tokens
        for model, tokens in work["halved"].items():
            halved[model] = min(tokens, halved.get(model, tokens))
        for stage in STAGES:
            self.report.stage_seconds[stage] += work[f"{stage}_s"]

    def _close_at_once(self, document: Document, work: dict[str, Any]) -> None:
        state: State = "unchanged"
        if work["reason"]:
            state = "skipped" if document.status == "skipped" else "failed"
            self.failures += state == "failed"
        replaced = self._shelf.keep(document) if state == "unchanged" else []
        self._add(
            DocumentReport(
                source=document.source,
                state=state,
                doc_id=document.doc_id,
                reason=work["reason"],
                message=work["message"],
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
                replaced=self._shelf.finish(done, present),
            )
        )

    def _add(self, report: DocumentReport) -> None:
        self._open_sources.pop(report.source, None)
        self.documents_done += 1
        self.report.documents.append(report)
