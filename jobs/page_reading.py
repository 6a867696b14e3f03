"""What a late-interaction model makes of rendered pages: multi-vectors, expected OCR quality.

Runs in the embedding workers, so that both models share one device and one reservation of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.page_files import PageFiles, PageKey, vectors_kind
from cluster.page_vectors import Storage, to_bytes
from cluster.settings import Settings
from models.options import LateInteractionOptions
from models.registry import registry

if TYPE_CHECKING:
    from models.quality_predictor import QualityPredictor


@dataclass(frozen=True)
class Reading:
    """What is wanted of each page beyond its vector."""

    late: LateInteractionOptions
    vectors: str  # the kind of files that keep its multi-vectors; "" where none are wanted
    quality: bool
    scan: bool  # from the page as OCR gets it, not only from its kept image

    @classmethod
    def from_settings(cls, settings: Settings) -> "Reading | None":
        """None where nothing is wanted. Raises ModelUnavailable."""
        wants_vectors, quality = settings.multi_vectors != "off", settings.quality == "on"
        if not (wants_vectors or quality):
            return None
        late = LateInteractionOptions.from_settings(settings)
        spec = registry.find(late.model, "late-interaction")
        kind = vectors_kind(spec.name, spec.revision) if wants_vectors else ""
        return cls(late, kind, quality, scan=quality or settings.tiles > 1)


class PageReading:
    """One loaded late-interaction model, and the quality predictor on top of it."""

    def __init__(self, reading: Reading, settings: Settings) -> None:
        """Raises ModelUnavailable."""
        from models.colpali import ColPaliModel

        self._reading = reading
        self._settings = settings
        self._files = PageFiles(settings.page_images_url)
        self._model = ColPaliModel(reading.late)
        self._predictor: QualityPredictor | None = None
        if reading.quality:
            from models import quality_predictor

            folder = quality_predictor.predictor_folder(settings)
            self._predictor = quality_predictor.QualityPredictor(folder, self._model)

    def read(self, pages: Sequence[PageKey], scans: Sequence[bytes]) -> list[float | None]:
        """Keep the multi-vectors of pages, and predict their CER; None where nobody asked.

        `scans` are JPEGs as OCR would get the pages. Raises NotFound where an image is gone.
        """
        if self._settings.multi_vectors != "off":
            self._keep_vectors(pages, scans, self._settings.multi_vectors)
        if self._predictor is None:
            return [None] * len(pages)
        return [found.cer for found in self._predictor.predict(scans)]

    def _keep_vectors(
        self, pages: Sequence[PageKey], scans: Sequence[bytes], storage: Storage
    ) -> None:
        from models.late_interaction import pack_page

        # Of the kept image a quarter would have too few pixels.
        tiled = self._settings.tiles > 1
        images = list(scans) if tiled else [self._files.get(*page) for page in pages]
        for page, found in zip(
            pages, self._model.embed_images(images, tiles=self._settings.tiles), strict=True
        ):
            packed = pack_page(
                found,
                storage=storage,
                token_pooling=self._settings.token_pooling,
            )
            self._files.put(*page, to_bytes(packed), kind=self._reading.vectors)
