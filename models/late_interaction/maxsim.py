"""MaxSim: late-interaction scores of one query against many pages, exact on what is stored.

score = Σ over query vectors of the largest dot product with any vector of the page (ColBERT,
arXiv:2004.12832; ColPali, arXiv:2407.01449). A page is scored by itself: its vectors stay in the
processor's cache between the product and the maximum, and no page is padded to another's length.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier

import numpy as np
import torch

from cluster.pages.vectors import PackedVectors

MANY = 32  # pages from which on several threads pay


def maxsim(query: np.ndarray, pages: Sequence[PackedVectors]) -> np.ndarray:
    """Scores of pages, float32[pages], for a query float32[T, d]."""
    question = torch.from_numpy(np.ascontiguousarray(query, np.float32))
    if len(pages) < MANY:
        return _scores(question, pages)
    share = -(-len(pages) // torch.get_num_threads())
    shares = [pages[start : start + share] for start in range(0, len(pages), share)]
    parts = _workers().map(lambda part: _scores(question, part), shares)
    return np.concatenate(list(parts))


def similarities(query: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Return the dot product of every query vector with every cell's vector, float32[T, N]."""
    return np.asarray(query @ cells.T, np.float32)


@cache
def _workers() -> ThreadPoolExecutor:
    """As many threads as torch has, each computing alone: a page is too small to be shared."""
    count = torch.get_num_threads()
    workers = ThreadPoolExecutor(count, initializer=_compute_alone)
    all_started = Barrier(count)
    list(workers.map(lambda _: all_started.wait(), range(count)))
    torch.set_num_threads(count)  # theirs is 1 for good; threads to come have what there was
    return workers


def _compute_alone() -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # a thread takes over what is set with its first look at it


def _scores(query: torch.Tensor, pages: Sequence[PackedVectors]) -> np.ndarray:
    return np.array([_score(query, page) for page in pages], np.float32)


def _score(query: torch.Tensor, page: PackedVectors) -> float:
    if page.storage == "binary":
        products = _binary_products(query, page)
    else:
        products = query @ torch.from_numpy(page.codes).float().T
        if page.scales is not None:
            products *= torch.from_numpy(page.scales).float()
    return float(products.amax(dim=1).sum())


def _binary_products(query: torch.Tensor, page: PackedVectors) -> torch.Tensor:
    """q·s for signs s = (2b − 1)/√d is (2 q·b − Σq)/√d: the bits are multiplied as they are."""
    bits = torch.from_numpy(np.unpackbits(page.codes, axis=1, count=page.dimension)).float()
    products: torch.Tensor = 2 * (query @ bits.T) - query.sum(dim=1, keepdim=True)
    products /= page.dimension**0.5
    return products
