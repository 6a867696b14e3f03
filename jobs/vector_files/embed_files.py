"""Files of texts and documents → one file of vectors, by the models that the settings name."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from cluster.errors import InvalidInput
from cluster.settings import Settings
from jobs.progress import Step
from jobs.vector_files.embed import BATCH_ITEMS, PART_ROWS, embed_items
from jobs.vector_files.pages import PageItems
from jobs.vector_files.partial import Tally
from jobs.vector_files.place import check_is_free, shape_of
from jobs.vector_files.texts import is_text, text_items
from jobs.vector_files.tokens import embed_tokens
from jobs.vector_files.vectorizers import (
    EmbedderVectorizer,
    LateKind,
    LateVectorizer,
    PooledVectorizer,
    Vectorizer,
)
from jobs.vector_files.work import WorkItem
from models.late_interaction.pooling import PagePooling

Kind = Literal["vector"] | LateKind
LatePooling = PagePooling | Literal["none"]


@dataclass(frozen=True)
class EmbeddedFiles:
    """What was embedded of each source, and the dimensions of each vector."""

    tally: Tally
    dimension: int


def embed_files(
    settings: Settings,
    paths: Sequence[str],
    out: Path,
    *,
    batch_items: int = BATCH_ITEMS,
    part_rows: int = PART_ROWS,
    step: Step = lambda *_: None,
) -> EmbeddedFiles:
    """Embed texts (.txt, .jsonl) and documents into unit vectors by the settings' embedder.

    Raises NotFound, InvalidInput, FingerprintMismatch, ModelUnavailable, FilesUnavailable or
    OutOfMemory.
    """
    _check_out(out)
    vectorizer: Vectorizer = EmbedderVectorizer(settings)
    with PageItems(settings, "embedder", vectorizer.spec, vectorizer.fingerprint) as pages:
        items = _items(paths, pages)
        sizes = {"batch_items": batch_items, "part_rows": part_rows}
        tally = embed_items(items, vectorizer, out, **sizes, step=step)
    return EmbeddedFiles(tally, vectorizer.fingerprint.dimension)


def embed_late(
    settings: Settings,
    paths: Sequence[str],
    out: Path,
    *,
    kind: LateKind,
    pooling: LatePooling,
    step: Step = lambda *_: None,
) -> EmbeddedFiles:
    """Embed pages by the settings' late-interaction model: to one vector each, or to all tokens.

    With pooling "none" the file is NPZ with an array a page, made in one go; pooled vectors are as
    `quire vectors` has them, not of unit length. Raises what `embed_files` does.
    """
    _check_out(out)
    if texts := [path for path in paths if is_text(path)]:
        raise InvalidInput(f"{texts[0]}: late interaction embeds pages here: name documents")
    if pooling not in (*get_args(PagePooling), "none"):
        raise InvalidInput(f"--pooling {pooling} is an embedder's: use --kind vector")
    if pooling == "none" and shape_of(str(out)) != "npz":
        raise InvalidInput("pages have many vectors each: write .npz, or choose a --pooling")
    late = LateVectorizer(settings, kind)
    with PageItems(settings, "late-interaction", late.spec, late.fingerprint("", 0)) as pages:
        items = _items(paths, pages)
        if pooling == "none":
            return EmbeddedFiles(*embed_tokens(items, late, out, step))
        pooled = PooledVectorizer(late, pooling)
        # A page at a time: each may have thousands of tokens.
        tally = embed_items(items, pooled, out, batch_items=1, step=step)
    return EmbeddedFiles(tally, pooled.fingerprint.dimension)


def _check_out(out: Path) -> None:
    if shape_of(str(out)) == "folder":
        raise InvalidInput(f"{out}: name a file that ends in .npz or .parquet")
    check_is_free(str(out))


def _items(paths: Sequence[str], pages: PageItems) -> Iterator[WorkItem]:
    """Yield what is to be embedded, in an order that is always the same."""
    for path in paths:
        yield from text_items(path) if is_text(path) else pages.items([path])
