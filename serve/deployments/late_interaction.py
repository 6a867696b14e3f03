"""The late-interaction deployment: questions against the multi-vectors that were kept of pages.

One question at a time: on candidates of one search the model is done in milliseconds, and what
takes longer is to read the pages' files, which LateSearch does side by side.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from cluster.deployments import DeploymentSpec
from cluster.pages.files import PageFiles, PageKey
from cluster.settings import Settings
from models.evidence.regions import Evidence
from models.inputs import MultimodalInput
from serve.deployments.models import ServedModels
from serve.deployments.serial import in_turn
from serve.deployments.start import ModelDeployment, at_low_priority
from serve.tracing import traced

if TYPE_CHECKING:
    from models.late_interaction.model import ColPaliModel
    from models.late_interaction.search import LateSearch


def _load(models: ServedModels) -> "ColPaliModel":
    """Return the model, warm."""
    from models.late_interaction.model import ColPaliModel

    model = ColPaliModel(models.late_interaction)
    model.embed_query("warm up")
    return model


class LateInteractionDeployment(ModelDeployment):
    """One replica; every method is safe to call at the same time."""

    def __init__(self, spec: DeploymentSpec, settings: Settings, models: ServedModels) -> None:
        super().__init__(spec, settings)
        self._model = at_low_priority(lambda: _load(models))
        self._model.budget.on_refusal = self._count_out_of_memory
        self._page_images_url = settings.page_images_url
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="late-interaction")

    @traced("match")
    async def match(
        self, question: MultimodalInput, pages: Sequence[PageKey], collection: str, timeout_s: float
    ) -> np.ndarray:
        """MaxSim of each page of a collection, float32[pages]; NaN for one without multi-vectors.

        Raises InvalidInput, DeadlineExceeded or OutOfMemory.
        """
        search = self._search(collection)
        return await in_turn(self._worker, timeout_s, search.score, question, pages)

    @traced("evidence")
    async def evidence(
        self, text: str, page: PageKey, collection: str, timeout_s: float
    ) -> Evidence:
        """Find where on a page the words of a text are. Raises NotFound or DeadlineExceeded."""
        search = self._search(collection)
        return await in_turn(self._worker, timeout_s, search.evidence, text, page)

    def _search(self, collection: str) -> "LateSearch":
        from models.late_interaction.search import LateSearch

        return LateSearch(self._model, PageFiles(self._page_images_url, collection))
