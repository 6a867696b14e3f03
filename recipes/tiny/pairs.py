"""Pairs for the training of the look: screenshots and the views of the pages they were cut from."""

import random
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from benchmarks.screenshots import screenshot
from recipes.tiny.images import SCREEN_DPI, Grey, PageImages, grid_size


@dataclass(frozen=True)
class Phase:
    """A stretch of training on windows whose sides are `share` of the page's (1.0: whole pages)."""

    share: float
    steps: int
    batch: int
    lr: float


def batches(
    images: PageImages, max_pixels: int, phase: Phase, per_document: int, seed: int
) -> Iterator[tuple[list[Grey], list[Grey]]]:
    """(screenshots, views) of a batch of pages, `per_document` of a document, made in a thread."""
    rng = random.Random(seed)
    rich = [pages for pages in images.documents if len(pages) >= 2]
    with ThreadPoolExecutor(1) as pool:
        waiting: list[Future[tuple[list[Grey], list[Grey]]]] = []
        for _ in range(phase.steps):
            chosen: list[int] = []
            while len(chosen) < phase.batch:
                pages = rng.choice(rich)
                chosen += rng.sample(
                    pages, min(per_document, len(pages), phase.batch - len(chosen))
                )
            waiting.append(
                pool.submit(_pairs, images, chosen, max_pixels, phase.share, rng.random())
            )
            if len(waiting) > 3:
                yield waiting.pop(0).result()
        for pending in waiting:
            yield pending.result()


def _pairs(
    images: PageImages, chosen: list[int], max_pixels: int, share: float, seed: float
) -> tuple[list[Grey], list[Grey]]:
    rng = random.Random(seed)
    shots, views = [], []
    for index in chosen:
        page, view = _window(images.page(index), np.array(images.view(index)), share, rng)
        shots.append(screenshot_view(page, round(max_pixels * share**2), rng))
        views.append(view)
    return shots, views


def _window(page: Grey, view: Grey, share: float, rng: random.Random) -> tuple[Grey, Grey]:
    """The same window of a page and of its view, with ink in it if four tries find any."""
    if share == 1.0:
        return page, view
    rows, columns = (max(2, round(side * share / 32)) * 32 for side in view.shape)
    rows, columns = min(rows, view.shape[0]), min(columns, view.shape[1])
    for _ in range(4):
        top = rng.randint(0, view.shape[0] - rows)
        left = rng.randint(0, view.shape[1] - columns)
        part = view[top : top + rows, left : left + columns]
        if part.std() > 20:
            break
    down, right = page.shape[0] / view.shape[0], page.shape[1] / view.shape[1]
    same = page[
        round(top * down) : round((top + rows) * down),
        round(left * right) : round((left + columns) * right),
    ]
    return same, np.ascontiguousarray(part)


def screenshot_view(page: Grey, max_pixels: int, rng: random.Random) -> Grey:
    """A screenshot of a 75 dpi page on the patch grid."""
    image = screenshot(Image.fromarray(page), SCREEN_DPI, rng)
    rows, columns = grid_size(image.height, image.width, max_pixels)
    return np.asarray(image.resize((columns, rows), Image.Resampling.BICUBIC))
