"""What a late-interaction model makes of rendered pages: multi-vectors, expected OCR quality.

Runs in the embedding workers, so that both models share one device and one reservation of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.pages.files import PageFiles, PageKey, vectors_kind
from cluster.pages.vectors import Storage, to_bytes
from cluster.settings import Settings
from models.ocr_quality.files import load_card
from models.ocr_quality.predictor import open_predictor, predictor_folder
from models.options import LateInteractionOptions
from models.protocols import LateInteraction
from models.registry import registry

if TYPE_CHECKING:
    from models.engine.budget import TokenBudget

TILES = {1: 1, 4: 5}  # the page alone; the page and its quarters


@dataclass(frozen=True)
class Reading:
    """What is wanted of each page beyond its vector."""

    late: LateInteractionOptions
    vectors: str  # the kind of files that keep its multi-vectors; "" where none are wanted
    recipe: tuple[str, int, bool]  # of them, as PackedVectors has it
    quality: bool
    scan: bool  # from the page as OCR gets it, not only from its kept image

    @classmethod
    def from_settings(cls, settings: Settings) -> "Reading | None":
        """None where nothing is wanted. Raises ModelUnavailable."""
        storage, quality = settings.multi_vectors, settings.quality == "on"
        if storage == "off" and not quality:
            return None
        if quality:
            load_card(predictor_folder(settings))
        late = LateInteractionOptions.from_settings(settings)
        spec = registry.find(late.model, "late-interaction")
        kind = "" if storage == "off" else vectors_kind(spec.name, spec.revision)
        tiled, pooled = settings.tiles > 1, settings.token_pooling > 1
        recipe = (storage, TILES[settings.tiles], pooled)
        return cls(late, kind, recipe, quality, scan=quality or tiled)


class PageReading:
    """The late-interaction model, and the quality predictor on top of it where it can be."""

    def __init__(self, reading: Reading, settings: Settings) -> None:
        """Raises ModelUnavailable."""
        from models.late_interaction.model import ColPaliModel

        self._settings = settings
        self._vectors = reading.vectors
        self._files = PageFiles(settings.page_images_url)
        self._model = ColPaliModel(reading.late) if reading.vectors else None
        self._predictor = open_predictor(settings, self._model) if reading.quality else None

    @property
    def budgets(self) -> "list[TokenBudget]":
        """Those of its models."""
        models = (self._model, self._predictor.late if self._predictor else None)
        return [model.budget for model in models if model]

    def read(self, pages: Sequence[PageKey], scans: Sequence[bytes]) -> list[float | None]:
        """Keep the multi-vectors of pages, and predict their CER; None where nobody asked.

        `scans` are JPEGs as OCR would get the pages. Raises NotFound where an image is gone,
        InvalidInput where one cannot be used, OutOfMemory.
        """
        if self._model is not None and self._settings.multi_vectors != "off":
            self._keep_vectors(self._model, pages, scans, self._settings.multi_vectors)
        if self._predictor is None:
            return [None] * len(pages)
        return [found.cer for found in self._predictor.predict(scans)]

    def _keep_vectors(
        self,
        model: LateInteraction,
        pages: Sequence[PageKey],
        scans: Sequence[bytes],
        storage: Storage,
    ) -> None:
        from models.late_interaction.search import pack_page

        # Of the kept image a quarter would have too few pixels.
        tiled = self._settings.tiles > 1
        images = list(scans) if tiled else [self._files.get(*page) for page in pages]
        for page, found in zip(
            pages, model.embed_images(images, tiles=self._settings.tiles), strict=True
        ):
            packed = pack_page(found, storage=storage, token_pooling=self._settings.token_pooling)
            self._files.put(*page, to_bytes(packed), kind=self._vectors)
