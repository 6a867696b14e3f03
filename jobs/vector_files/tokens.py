"""Multi-vectors of many documents in one NPZ: an array a page, as `quire vectors` writes them."""

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from jobs.progress import Step
from jobs.vector_files.partial import Tally
from jobs.vector_files.place import writing
from jobs.vector_files.vectorizers import LateVectorizer
from jobs.vector_files.work import WorkItem, load_item


def embed_tokens(
    items: Iterable[WorkItem], late: LateVectorizer, out: Path, step: Step = lambda *_: None
) -> tuple[Tally, int]:
    """Write the tokens of pages, one page at a time; returns counts and dimensions.

    `page_0001` is float32[N, d], `grid_0001` int32[tiles, 2]; `ids` says which page each number is,
    and `fingerprint` what made them. Raises FilesUnavailable or OutOfMemory.
    """
    tally, ids, dimension = Tally(), [], 0
    with (
        writing(str(out)) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as opened,
    ):
        for item in items:
            loaded = load_item(item, late.prepare)
            if isinstance(loaded, str):
                tally.fail(item, loaded)
                continue
            tokens, grid = late.tokens(loaded[1])
            ids.append(item.id)
            dimension = tokens.shape[1]
            _add(opened, f"page_{len(ids):04d}", tokens)
            _add(opened, f"grid_{len(ids):04d}", grid)
            counts = tally.source(item.source)
            counts.rows += 1
            counts.tokens += len(tokens)
            step("embedded", len(ids), 0)
        _add(opened, "ids", np.array(ids, np.str_))
        _add(opened, "fingerprint", np.array(late.fingerprint("none", dimension).to_json()))
    return tally, dimension


def _add(opened: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with opened.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)
