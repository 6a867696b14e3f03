"""Evidence of hits as pictures: each page with what was found drawn over it."""

import asyncio
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from cluster.core import Hit
from cluster.errors import InvalidInput, NotFound
from cluster.pages.files import PageFiles, PageKey, vectors_kind
from cluster.settings import Settings
from models.evidence.finder import EvidenceFinder
from models.evidence.overlay import overlay
from models.evidence.regions import Evidence
from models.inputs import MultimodalInput
from models.options import EmbedderOptions, LateInteractionOptions
from models.registry import registry

_UNSAFE = re.compile(r"[^\w.-]+")


def draw_evidence(settings: Settings, hits: Sequence[Hit], text: str, folder: Path) -> list[Path]:
    """Write a PNG for each hit whose page image is kept; returns the files.

    Raises InvalidInput where there is no text, or the folder cannot be written to.
    """
    if not text.strip():
        raise InvalidInput("evidence needs words to look for: give a text")
    files = PageFiles.from_settings(settings)
    finder = _finder(settings, files)
    written = []
    for rank, hit in enumerate(hits, start=1):
        key = PageKey.of(hit)
        try:
            jpeg = files.get(*key)
        except NotFound:  # kept pages may be cleared away
            continue
        evidence = asyncio.run(finder.find_evidence("auto", text, key, jpeg))
        stem = _UNSAFE.sub("_", Path(hit.source).stem)[:80]
        path = folder / f"{rank:02d}-{stem}-page{hit.page}-{evidence.method}.png"
        _write(path, overlay(jpeg, evidence))
        written.append(path)
    return written


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}") from error


def _finder(settings: Settings, files: PageFiles) -> EvidenceFinder:
    """Models are loaded when the first page needs them."""
    from models.late_interaction.search import LateSearch
    from models.qwen3_vl.embedder import Qwen3VLEmbedder

    late_options = LateInteractionOptions.from_settings(settings)
    spec = registry.find_spec(late_options.model, "late-interaction")

    @cache
    def search() -> LateSearch:
        from models.late_interaction.model import ColPaliModel

        return LateSearch(ColPaliModel(late_options), files)

    @cache
    def embedder() -> Qwen3VLEmbedder:
        return Qwen3VLEmbedder(EmbedderOptions.from_settings(settings, has_gpu=None))

    async def late(text: str, page: PageKey) -> Evidence:
        return search().evidence(text, page)

    async def states(text: str, jpeg: bytes) -> np.ndarray:
        return embedder().similarities(MultimodalInput(text=text), jpeg)

    return EvidenceFinder(files, vectors_kind(spec.name, spec.revision), late, states)
