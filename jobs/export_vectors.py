"""Multi-vectors of a document's pages into a file, for work outside of Quire."""

from pathlib import Path
from typing import Literal

import numpy as np

from cluster.errors import InvalidInput, NotFound
from cluster.settings import Settings
from jobs.rendering.client import RenderLimits
from jobs.rendering.pages import PageReader
from models.late_interaction.pooling import PagePooling, pool_tokens
from models.options import LateInteractionOptions

Kind = Literal["multi", "hidden"]
Pooled = Literal["none"] | PagePooling


def export_vectors(
    settings: Settings, path: Path, *, kind: Kind, pooling: Pooled, out: Path
) -> int:
    """Write an npz with an entry for each page; returns how many pages it holds.

    `page_0001` is float32[N, d] (multi: the projected vectors; hidden: the states before them), or
    float32[d] (concat: [3d]) where they are pooled; `grid_0001` int32[tiles, 2] has the rows and
    columns of each tile. Raises NotFound, InvalidInput, UnreadableDocument or ModelUnavailable.
    """
    if not path.is_file():
        raise NotFound(f"there is no file {path}")
    from models.late_interaction.model import ColPaliModel

    model = ColPaliModel(LateInteractionOptions.from_settings(settings))
    arrays: dict[str, np.ndarray] = {}
    with PageReader(RenderLimits.from_settings(settings)) as reader:
        pages = reader.pages(str(path))
        for number in range(1, pages + 1):
            rgb = reader.read(str(path), number, pages=pages).rgb
            (found,) = model.embed_images([rgb], hidden=kind == "hidden", tiles=settings.tiles)
            tokens = found.vectors if found.hidden is None else found.hidden
            arrays[f"page_{number:04d}"] = (
                tokens if pooling == "none" else pool_tokens(tokens, pooling)
            )
            grid = [(tile.rows, tile.columns) for tile in found.tiles]
            arrays[f"grid_{number:04d}"] = np.array(grid, np.int32)
    try:
        with out.open("wb") as file:  # under this very name
            np.savez_compressed(file, allow_pickle=False, **arrays)
    except OSError as error:
        raise InvalidInput(f"{out} cannot be written: {error.strerror}") from error
    return pages
