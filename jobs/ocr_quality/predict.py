"""Predict how well an OCR engine will read files, page by page, without running it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from cluster.core import Verdict
from cluster.errors import InvalidInput, UnreadableDocument
from cluster.settings import Settings
from cluster.sources import list_sources
from jobs.rendering.client import RenderLimits
from jobs.rendering.pages import PageReader
from models.ocr_quality.predictor import QualityPrediction, QualityPredictor, verdict


@dataclass(frozen=True)
class PageQuality:
    """One page of a file, or a file that cannot be read: then `error` says why."""

    source: str
    page: int = 0
    prediction: QualityPrediction | None = None
    verdict: Verdict | None = None
    error: str = ""

    def to_row(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        known = asdict(self.prediction) if self.prediction else {}
        row = {"source": self.source, "page": self.page, **known, "verdict": self.verdict}
        return row | ({"error": self.error} if self.error else {})


def predict_files(
    settings: Settings, paths: tuple[str, ...], predictor: QualityPredictor
) -> Iterator[PageQuality]:
    """Predict every page of files, in order. Raises NotFound for a path without anything."""
    sources = list_sources(paths)
    if any("://" in source for source in sources):
        raise InvalidInput("predictions are made for local files: copy the documents first")
    yield from _pages(settings, sources, predictor)


def _pages(
    settings: Settings, sources: list[str], predictor: QualityPredictor
) -> Iterator[PageQuality]:
    with PageReader(RenderLimits.from_settings(settings)) as reader:
        for source in sources:
            try:
                count = reader.pages(source)
            except UnreadableDocument as error:
                yield PageQuality(source, error=str(error))
                continue
            for page in range(1, count + 1):
                try:
                    pixels = reader.read(source, page, pages=count)
                    (found,) = predictor.predict([pixels.rgb])
                except (UnreadableDocument, InvalidInput) as error:
                    yield PageQuality(source, page, error=str(error))
                else:
                    yield PageQuality(source, page, found, verdict(found.cer, settings))
