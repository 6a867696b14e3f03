"""The quality deployment: how well OCR would read a page, before any is run."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from cluster.metrics import count_out_of_memory
from cluster.settings import Settings
from serve.deployments.serial import in_turn
from serve.logs import log_as_service
from serve.tracing import Trace, traced

if TYPE_CHECKING:
    from models.ocr_quality.predictor import Attribution, QualityPrediction


class QualityDeployment:
    """One replica; every method is safe to call at the same time."""

    def __init__(self, settings: Settings) -> None:
        from models.engine.device import limit_gpu_memory, use_threads
        from models.ocr_quality.predictor import open_predictor

        use_threads(settings.quality_replicas.threads)
        limit_gpu_memory(settings.quality_replicas.memory_fraction)
        log_as_service()
        self._trace = Trace("quire-quality", settings.otlp_endpoint)
        self._predictor = open_predictor(settings)
        if late := self._predictor.late:
            late.budget.on_refusal = partial(count_out_of_memory, "quality")
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="quality")

    async def ready(self) -> bool:
        """Answered once the model is loaded."""
        return True

    @traced("quality")
    async def predict(self, images: Sequence[bytes], timeout_s: float) -> "list[QualityPrediction]":
        """One prediction for each image file. Raises InvalidInput or DeadlineExceeded."""
        return await in_turn(self._worker, timeout_s, self._predictor.predict, images)

    @traced("attribution")
    async def attribute(self, image: bytes, timeout_s: float) -> "Attribution":
        """What makes a page hard. Raises InvalidInput or DeadlineExceeded."""
        return await in_turn(self._worker, timeout_s, self._predictor.attribute, image)
