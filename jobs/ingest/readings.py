"""Readings of pages: what is read of a page beside its vectors, each a class of one interface.

A new one is a class and an entry of READINGS. Its `columns` are the fields of a page's row that it
fills; a collection of today's format needs no new schema for them. Where a page in the index lacks
a wanted reading, the next ingest does that page again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from cluster.core import Document, Readings
from cluster.errors import InvalidInput, NotFound
from cluster.pages.files import PageFiles, PageKey, vectors_kind
from cluster.pages.vectors import Storage, from_bytes, to_bytes
from cluster.settings import Settings
from cluster.store.milvus import MilvusStore
from cluster.store.schema import EXPECTED_CER
from models.options import LateInteractionOptions
from models.protocols import Budget
from models.registry import registry

if TYPE_CHECKING:
    from models.late_interaction.model import ColPaliModel
    from models.ocr_quality.predictor import QualityPredictor

# In the rendering workers, page by page; or in a stage of its own, with models on a device.
RunsOn = Literal["cpu", "device"]
TILES = {1: 1, 4: 5}  # the page alone; the page and its quarters


@dataclass(frozen=True)
class PageInput:
    """What a reading gets of one page.

    `picture` is the JPEG that is kept, `scan` one as OCR would get it; b"" where no reading of this
    stage wants it.
    """

    key: PageKey
    picture: bytes
    scan: bytes
    text: str


class ReadingModels:
    """Models that readings share within one worker; each is loaded when first used."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.files = PageFiles.from_settings(settings)

    @cached_property
    def late_interaction(self) -> "ColPaliModel":
        """Return the model that makes multi-vectors. Raises ModelUnavailable."""
        from models.late_interaction.model import ColPaliModel

        return ColPaliModel(LateInteractionOptions.from_settings(self._settings))

    @cached_property
    def quality(self) -> "QualityPredictor":
        """The OCR quality predictor, on the model for multi-vectors where that one is loaded."""
        from models.ocr_quality.predictor import open_predictor

        loaded = self.__dict__.get("late_interaction")
        return open_predictor(self._settings, loaded)

    @property
    def budgets(self) -> list[Budget]:
        """Return the token budgets of what is loaded."""
        quality = self.__dict__.get("quality")
        models = (self.__dict__.get("late_interaction"), quality.late if quality else None)
        return [model.budget for model in dict.fromkeys(models) if model is not None]


class Reading(Protocol):
    """One thing that is read of every page; travels to the workers, so it must pickle."""

    columns: ClassVar[tuple[str, ...]]  # of a page's row, that it fills; none where it keeps files

    @property
    def runs_on(self) -> RunsOn:
        """Name the stage that it is read in."""
        ...

    @property
    def needs_scan(self) -> bool:
        """True where it reads the page as OCR gets it, not its kept picture."""
        ...

    @classmethod
    def wanted(cls, settings: Settings) -> "Reading | None":
        """Return the reading as the settings ask for it, or None. Raises ModelUnavailable."""
        ...

    def done(self, document: Document, store: MilvusStore, files: PageFiles) -> set[int]:
        """Return the pages of a document that have been read as it is wanted now."""
        ...

    def load(self, models: ReadingModels) -> None:
        """Load what reading needs, once in each worker. Raises ModelUnavailable."""
        ...

    def read(self, pages: Sequence[PageInput], models: ReadingModels) -> list[Readings]:
        """Read pages → the values of its columns, a dict for each page.

        Called from several threads at once where it runs on a device. Raises NotFound where a file
        is gone, InvalidInput where a picture cannot be used, OutOfMemory.
        """
        ...


@dataclass(frozen=True)
class MultiVectors:
    """Multi-vectors of pages, in files beside their images, in the precision `storage`."""

    kind: str  # of the files: another model's are other files
    storage: Storage
    tiles: int
    token_pooling: int
    columns: ClassVar[tuple[str, ...]] = ()
    runs_on: ClassVar[RunsOn] = "device"

    @classmethod
    def wanted(cls, settings: Settings) -> "MultiVectors | None":
        if settings.multi_vectors == "off":
            return None
        spec = registry.find_spec(
            LateInteractionOptions.from_settings(settings).model, "late-interaction"
        )
        kind = vectors_kind(spec.name, spec.revision)
        return cls(kind, settings.multi_vectors, settings.tiles, settings.token_pooling)

    @property
    def needs_scan(self) -> bool:
        return self.tiles > 1  # of the kept image a quarter would have too few pixels

    def done(self, document: Document, store: MilvusStore, files: PageFiles) -> set[int]:
        """Find the pages with files of this recipe.

        Those of an indexed document are all of one recipe, so one is looked at; where an ingest
        was interrupted, each is.
        """
        pages = files.pages(document, self.kind)
        looked_at = {min(pages)} if pages and document.status == "indexed" else pages
        of_recipe = {page for page in looked_at if self._has_recipe(document, page, files)}
        return pages if of_recipe == looked_at else of_recipe

    def _has_recipe(self, document: Document, page: int, files: PageFiles) -> bool:
        key = PageKey(document.tenant, document.doc_id, page)
        try:
            recipe = from_bytes(files.get(*key, kind=self.kind)).recipe
        except (InvalidInput, NotFound):
            return False
        return recipe == (self.storage, TILES[self.tiles], self.token_pooling > 1)

    def load(self, models: ReadingModels) -> None:
        models.late_interaction  # noqa: B018 — loads it

    def read(self, pages: Sequence[PageInput], models: ReadingModels) -> list[Readings]:
        from models.late_interaction.search import pack_page

        images = [page.scan if self.needs_scan else page.picture for page in pages]
        vectors = models.late_interaction.embed_images(images, tiles=self.tiles)
        files = {}
        for page, page_vectors in zip(pages, vectors, strict=True):
            packed = pack_page(page_vectors, storage=self.storage, token_pooling=self.token_pooling)
            files[page.key, self.kind] = to_bytes(packed)
        models.files.put_all(files)
        return [{} for _ in pages]


@dataclass(frozen=True)
class ExpectedCer:
    """The character error rate that OCR is predicted to have on a page."""

    runs_on: RunsOn = "cpu"
    columns: ClassVar[tuple[str, ...]] = (EXPECTED_CER,)
    needs_scan: ClassVar[bool] = True

    @classmethod
    def wanted(cls, settings: Settings) -> "ExpectedCer | None":
        if settings.quality == "off":
            return None
        from models.ocr_quality.files import load_card
        from models.ocr_quality.predictor import predictor_folder

        card = load_card(predictor_folder(settings))
        return cls("device" if card.vectors else "cpu")

    def done(self, document: Document, store: MilvusStore, files: PageFiles) -> set[int]:
        return set(store.readings(document, self.columns))

    def load(self, models: ReadingModels) -> None:
        models.quality  # noqa: B018 — loads it

    def read(self, pages: Sequence[PageInput], models: ReadingModels) -> list[Readings]:
        predictions = models.quality.predict([page.scan for page in pages])
        return [{EXPECTED_CER: prediction.cer} for prediction in predictions]


# In this order: the predictor takes the model of the multi-vectors where it is the one it needs.
READINGS: tuple[type[Reading], ...] = (MultiVectors, ExpectedCer)


def wanted_readings(settings: Settings) -> tuple[Reading, ...]:
    """List what the settings want read of every page. Raises ModelUnavailable."""
    readings = (kind.wanted(settings) for kind in READINGS)
    return tuple(reading for reading in readings if reading is not None)


def columns_of(readings: Iterable[Reading | type[Reading]]) -> tuple[str, ...]:
    """Return the columns that these readings fill."""
    return tuple(column for reading in readings for column in reading.columns)


def reading_recipe(readings: Iterable[Reading]) -> str:
    """Return what tells the readings of one ingest from those of another."""
    return "; ".join(map(repr, readings))
