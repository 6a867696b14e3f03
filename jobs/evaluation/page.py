"""The report as one HTML file: styles, plots and pictures of pages are in it."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cluster.errors import InvalidInput
from cluster.pages.files import PageFiles, PageKey
from cluster.settings import Settings
from jobs.evaluation.markdown import format_rho
from jobs.evaluation.plots import draw_plots
from jobs.evaluation.report import Report, WorstQuestion, format_p
from jobs.evaluation.result import EvaluationResult
from jobs.evaluation.truth import Truth
from models.images import decode_image

MAX_SIDE_PX = 260
JPEG_QUALITY = 60
MAX_IMAGE_PIXELS = 100_000_000
MAX_FOUND = 5
MAX_WANTED = 3


@dataclass(frozen=True)
class Picture:
    """A page as the report shows it; `data`: a JPEG in base64, "" where no image is kept."""

    label: str
    data: str
    relevant: bool


@dataclass(frozen=True)
class ShownPage:
    """A page to show; `key` is None where its document is not in the collection."""

    key: PageKey | None
    source: str
    is_relevant: bool


@dataclass(frozen=True)
class PicturedQuestion:
    """A badly answered question with the pages wanted and the pages found, as pictures."""

    question: WorstQuestion
    wanted: list[Picture]
    found: list[Picture]


def to_html(result: EvaluationResult, report: Report, settings: Settings) -> str:
    """Return the page. Pictures of pages come from what is kept of the collection's."""
    from jinja2 import Environment, PackageLoader
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("jobs.evaluation", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html.j2")
    return template.render(
        report=report,
        plots=[[Markup(svg) for svg in plots] for plots in draw_plots(report.tables)],  # noqa: S704
        worst=list(_pictured(result.truths[0], report, PageFiles.from_settings(settings))),
        format_p=format_p,
        format_rho=format_rho,
    )


def _pictured(truth: Truth, report: Report, files: PageFiles) -> Iterator[PicturedQuestion]:
    for question in report.worst:
        wanted = [_wanted_page(truth, question.id, key) for key in question.wanted[:MAX_WANTED]]
        found = [
            ShownPage(PageKey(page.tenant, page.doc_id, page.page), page.source, is_relevant)
            for page, is_relevant in zip(question.found, question.relevant, strict=True)
        ]
        yield PicturedQuestion(
            question, list(_pictures(files, wanted)), list(_pictures(files, found[:MAX_FOUND]))
        )


def _wanted_page(truth: Truth, question_id: str, key: str) -> ShownPage:
    """Return the page of a judged key; of a whole document its first."""
    doc_id, page = (key, "1") if question_id in truth.by_document else key.rsplit(":", 1)
    document = truth.documents.get(doc_id)
    if document is None:
        return ShownPage(None, f"{key}: not in the collection", True)
    return ShownPage(PageKey(document.tenant, doc_id, int(page)), document.source, True)


def _pictures(files: PageFiles, pages: Sequence[ShownPage]) -> Iterator[Picture]:
    kept = iter(files.get_all([page.key for page in pages if page.key is not None]))
    for page in pages:
        if page.key is None:
            yield Picture(page.source, "", page.is_relevant)
            continue
        label = f"{page.source.rpartition('/')[2]}, page {page.key.page}"
        yield Picture(label, _small_jpeg(next(kept)), page.is_relevant)


def _small_jpeg(data: bytes | None) -> str:
    """Return a page's image, at most 260 px a side, as JPEG in base64; "" where it has none."""
    if data is None:
        return ""
    try:
        image = decode_image(data, max_pixels=MAX_IMAGE_PIXELS)
    except InvalidInput:
        return ""
    image.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=JPEG_QUALITY)
    return base64.b64encode(buffer.getvalue()).decode()
