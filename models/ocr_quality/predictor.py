"""How well will an OCR engine read a page? Foretold from its image, before any OCR is run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cluster.core import Verdict
from cluster.errors import ModelUnavailable
from cluster.settings import Settings
from models.inputs import Picture, to_image
from models.late_interaction.pooling import pool_tokens
from models.ocr_quality.features import image_statistics
from models.ocr_quality.files import QualityModel, QualityRates, load_card, load_model
from models.options import LateInteractionOptions
from models.protocols import LateInteraction
from models.registry import registry

SHIPPED_FOLDER = Path(__file__).parents[1] / "checkpoints" / "ocr-quality"
REGION_PX = 160  # about the side of a region in an attribution …
MAX_REGIONS = 8  # … of which there are at most so many along each side
EMBED_IMAGES = 8


@dataclass(frozen=True)
class QualityPrediction:
    """What to expect of one page; rates in [0, 1], clipped as the labels were.

    `cer`: edit distance of characters / characters of the truth. The true one lies between
    `cer_low` and `cer_high` for a share `interval` of pages like those that were learnt from.
    """

    cer: float
    cer_low: float
    cer_high: float
    wer: float
    engine: str
    interval: float


@dataclass(frozen=True)
class Attribution:
    """What regions add to a page's expected CER: `contribution` float32[rows, columns].

    Positive where a region makes the page harder: without it, its paper left blank, the expected
    CER would be lower by so much. Regions are equal parts of the page, row by row from the top.
    """

    contribution: np.ndarray
    cer: float


class QualityPredictor:
    """One predictor from a folder (format: `models.ocr_quality.files`)."""

    def __init__(self, folder: Path, late_interaction: LateInteraction | None) -> None:
        """Load and check all files. Raises ModelUnavailable with what to do."""
        self._model: QualityModel = load_model(folder)
        self.card = self._model.card
        self.late = late_interaction
        if self.needs_vectors:
            self._check_late(folder)

    @property
    def needs_vectors(self) -> bool:
        """True where pages must pass the late-interaction model, and not only their statistics."""
        return bool(self.card.vectors)

    @cached_property
    def engine(self) -> str:
        """Return the engine that it predicts, e.g. "tesseract 5.3.0"."""
        return f"{self.card.engine} {self.card.engine_version}"

    def predict(self, images: Sequence[Picture]) -> list[QualityPrediction]:
        """Predict pages: uint8[height, width, 3], PIL images, or the bytes of image files.

        Give the pixels that the engine would read: resolution is what matters most, and an image
        scaled down for a screen is harder to read than the scan it came from. Raises InvalidInput.
        """
        predictions: list[QualityPrediction] = []
        for start in range(0, len(images), EMBED_IMAGES):
            grays = [to_gray(image) for image in images[start : start + EMBED_IMAGES]]
            vectors = [self._pooled(tokens) for tokens in self._tokens(grays)]
            rates = self._model.rates(
                self._statistics(grays), np.stack(vectors) if vectors else None
            )
            predictions += [self._prediction(rates, number) for number in range(len(grays))]
        return predictions

    def attribute(self, image: Picture) -> Attribution:
        """Find the regions that make a page hard, by leaving out one at a time.

        A region is filled with the tone of its own paper, the statistics are taken again, and its
        tokens are left out of the pool; what the expected CER falls by is what the region added.
        Costs the statistics once for each of up to 64 regions: seconds, not milliseconds.
        """
        gray = to_gray(image)
        rows, columns = (
            int(np.clip(round(side / REGION_PX), 2, MAX_REGIONS)) for side in gray.shape
        )
        pages, pools = [gray], []
        (tokens,) = self._tokens([gray]) or [None]
        if tokens is not None:
            pools.append(self._pooled(tokens))
        for row in range(rows):
            for column in range(columns):
                pages.append(_without(gray, row, column, rows, columns))
                if tokens is not None:
                    pools.append(self._pooled(tokens, (row, column, rows, columns)))
        rates = self._model.rates(self._statistics(pages), np.stack(pools) if pools else None)
        change = rates.cer[0] - rates.cer[1:]
        return Attribution(change.reshape(rows, columns).astype(np.float32), float(rates.cer[0]))

    def _check_late(self, folder: Path) -> None:
        wanted = f"{self.card.late_interaction}@{self.card.late_interaction_revision}"
        if self.late is None:
            raise ModelUnavailable(f"the predictor in {folder} needs vectors of {wanted}")
        spec = self.late.spec
        if f"{spec.name}@{spec.revision}" != wanted:
            raise ModelUnavailable(
                f"the predictor in {folder} learnt from vectors of {wanted}, not of "
                f"{spec.name}@{spec.revision}: train it again with this one"
            )

    def _statistics(self, grays: list[np.ndarray]) -> np.ndarray:
        """float32[pages, names] in the order that the model learnt."""
        rows = [image_statistics(gray) for gray in grays]
        try:
            return np.array(
                [[row[name] for name in self.card.statistics] for row in rows], np.float32
            )
        except KeyError as error:
            raise ModelUnavailable(
                f"there is no image statistic {error}: train it again"
            ) from error

    def _tokens(self, grays: list[np.ndarray]) -> list[Any]:
        """Return the page vectors of each page; none where they are not needed."""
        if not self.needs_vectors or self.late is None:
            return []
        # The engine sees no colour, and so neither may the predictor.
        pages = [Image.fromarray(gray).convert("RGB") for gray in grays]
        return list(self.late.embed_images(pages, hidden=self.card.vectors == "hidden"))

    def _pooled(self, tokens: Any, left_out: tuple[int, int, int, int] | None = None) -> np.ndarray:
        matrix = tokens.hidden if self.card.vectors == "hidden" else tokens.vectors
        if left_out is not None:
            is_outside = _cells_outside(tokens.tiles[0].rows, tokens.tiles[0].columns, left_out)
            matrix = matrix[is_outside] if is_outside.any() else matrix
        return pool_tokens(matrix, self.card.pooling)  # type: ignore[arg-type]

    def _prediction(self, rates: QualityRates, number: int) -> QualityPrediction:
        return QualityPrediction(
            cer=float(rates.cer[number]),
            cer_low=float(rates.cer_low[number]),
            cer_high=float(rates.cer_high[number]),
            wer=float(rates.wer[number]),
            engine=self.engine,
            interval=self.card.interval,
        )


def verdict(cer: float, settings: Settings) -> Verdict:
    """Decide what to do with a page of an expected CER.

    "ocr": let the engine read it. "rescan": a better image would help, with more pixels, sharper,
    straight, evenly lit. "manual": so hard that people should copy what is on it.
    """
    if cer <= settings.quality_ocr_cer:
        return "ocr"
    return "rescan" if cer <= settings.quality_manual_cer else "manual"


def predictor_folder(settings: Settings) -> Path:
    """Return the folder of the predictor that the settings ask for."""
    named = settings.quality_model
    return Path(named).resolve() if named else SHIPPED_FOLDER  # workers have other folders


def open_predictor(settings: Settings, at_hand: LateInteraction | None = None) -> QualityPredictor:
    """Return the predictor of the settings, with the late-interaction model that it learnt from.

    That is its own choice, whatever model searches use; `at_hand` is taken where it is the one.
    Raises ModelUnavailable.
    """
    folder = predictor_folder(settings)
    card = load_card(folder)
    if not card.vectors:
        return QualityPredictor(folder, None)
    if at_hand is not None and at_hand.spec.name == card.late_interaction:
        return QualityPredictor(folder, at_hand)
    from models.late_interaction.model import ColPaliModel

    options = LateInteractionOptions.from_settings(settings)
    if card.late_interaction in registry.specs:
        options = replace(options, model=card.late_interaction)
    return QualityPredictor(folder, ColPaliModel(options))


def to_gray(image: Picture) -> np.ndarray:
    """Any picture → uint8[height, width], as the engine sees it. Raises InvalidInput."""
    return np.asarray(to_image(image).convert("L"))


def _without(gray: np.ndarray, row: int, column: int, rows: int, columns: int) -> np.ndarray:
    """Return the page with one region blank: filled with the tone of its own paper."""
    height, width = gray.shape
    part = np.s_[
        row * height // rows : (row + 1) * height // rows,
        column * width // columns : (column + 1) * width // columns,
    ]
    blank = gray.copy()
    blank[part] = np.uint8(np.quantile(gray[part], 0.8))
    return blank


def _cells_outside(rows: int, columns: int, region: tuple[int, int, int, int]) -> np.ndarray:
    """Mark the cells of a token grid whose centre is outside of a region: bool[rows * columns]."""
    row, column, region_rows, region_columns = region
    y = ((np.arange(rows) + 0.5) / rows * region_rows).astype(int) == row
    x = ((np.arange(columns) + 0.5) / columns * region_columns).astype(int) == column
    return np.asarray(~(y[:, None] & x[None]).ravel())
