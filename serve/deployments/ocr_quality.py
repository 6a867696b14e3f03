"""The quality deployment: predicts how well OCR would read a page, without running OCR."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from cluster.deployments import DeploymentSpec
from cluster.settings import Settings
from serve.deployments.models import ServedModels
from serve.deployments.serial import in_turn
from serve.deployments.start import ModelDeployment, at_low_priority
from serve.tracing import traced

if TYPE_CHECKING:
    from models.ocr_quality.predictor import Attribution, QualityPrediction, QualityPredictor


def _load(settings: Settings) -> "QualityPredictor":
    from models.ocr_quality.predictor import open_predictor

    return open_predictor(settings)


class QualityDeployment(ModelDeployment):
    """One replica; every method is safe to call at the same time."""

    def __init__(self, spec: DeploymentSpec, settings: Settings, models: ServedModels) -> None:
        super().__init__(spec, settings)
        self._predictor = at_low_priority(lambda: _load(settings))
        if late := self._predictor.late:
            late.budget.on_refusal = self._count_out_of_memory
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="quality")

    @traced("quality")
    async def predict(self, images: Sequence[bytes], timeout_s: float) -> "list[QualityPrediction]":
        """Predict the error rates of each image file. Raises InvalidInput or DeadlineExceeded."""
        return await in_turn(self._worker, timeout_s, self._predictor.predict, images)

    @traced("attribution")
    async def attribute(self, image: bytes, timeout_s: float) -> "Attribution":
        """Find what makes a page hard. Raises InvalidInput or DeadlineExceeded."""
        return await in_turn(self._worker, timeout_s, self._predictor.attribute, image)
