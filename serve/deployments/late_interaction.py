"""The late-interaction deployment: questions against the multi-vectors that were kept of pages.

One question at a time: on candidates of one search the model is done in milliseconds, and what
takes longer is to read the pages' files.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from cluster.metrics import count_out_of_memory
from cluster.pages.files import PageFiles, PageKey
from cluster.settings import DeviceScaling
from models.evidence.regions import Evidence
from models.inputs import MultimodalInput
from models.options import LateInteractionOptions
from serve.deployments.serial import in_turn
from serve.logs import log_as_service
from serve.tracing import Trace, traced


class LateInteractionDeployment:
    """One replica; every method is safe to call at the same time."""

    def __init__(
        self, options: LateInteractionOptions, files_url: str, scaling: DeviceScaling, otlp: str
    ) -> None:
        from models.engine.device import limit_gpu_memory, use_threads
        from models.late_interaction.model import ColPaliModel
        from models.late_interaction.search import LateSearch

        use_threads(scaling.threads)
        limit_gpu_memory(scaling.memory_fraction)
        log_as_service()
        self._trace = Trace("quire-late-interaction", otlp)
        model = ColPaliModel(options)
        model.budget.on_refusal = partial(count_out_of_memory, "late_interaction")
        model.embed_query("warm up")
        self._search = LateSearch(model, PageFiles(files_url))
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="late-interaction")

    async def ready(self) -> bool:
        """Answered once the model is loaded."""
        return True

    @traced("match")
    async def match(
        self, question: MultimodalInput, pages: Sequence[PageKey], timeout_s: float
    ) -> np.ndarray:
        """MaxSim of each page, float32[pages]; NaN for one without multi-vectors.

        Raises InvalidInput, DeadlineExceeded or OutOfMemory.
        """
        return await in_turn(self._worker, timeout_s, self._search.score, question, pages)

    @traced("evidence")
    async def evidence(self, text: str, page: PageKey, timeout_s: float) -> Evidence:
        """Where on a page the words of a text are. Raises NotFound or DeadlineExceeded."""
        return await in_turn(self._worker, timeout_s, self._search.evidence, text, page)
