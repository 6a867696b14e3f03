"""Where the tokens of a page stand: what the vision tower learns to read is supervised by place."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pymupdf
from tokenizers import Tokenizer

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

# A word's box reaches from the font's ascender to its descender; ink rarely does.
_ABOVE, _BELOW = 0.2, 0.15


@dataclass(frozen=True)
class TokenBoxes:
    """Tokens (n,) of a page and their boxes (n, 4): left, top, right, bottom in pixels."""

    tokens: Ints
    boxes: Floats


def word_boxes(page: pymupdf.Page, height: int, width: int) -> tuple[list[str], Floats]:
    """Words of the text layer, and their boxes (n, 4) in an image of the page of that size."""
    found = page.get_text("words")
    words = [str(word[4]) for word in found]
    boxes = np.array([word[:4] for word in found], np.float32).reshape(-1, 4)
    # Text comes in the coordinates of the unturned page, which starts at (0, 0).
    boxes *= np.array([width / page.rect.width, height / page.rect.height] * 2, np.float32)
    tall = boxes[:, 3] - boxes[:, 1]
    boxes[:, 1] += _ABOVE * tall
    boxes[:, 3] -= _BELOW * tall
    return words, boxes


def token_boxes(page: pymupdf.Page, tokenizer: Tokenizer, height: int, width: int) -> TokenBoxes:
    """Tokens of the text layer; each has the part of its word's box that its letters take up."""
    words, boxes = word_boxes(page, height, width)
    tokens, parts = [], []
    encoded = tokenizer.encode_batch(words, add_special_tokens=False)
    for word, (left, top, right, bottom), encoding in zip(words, boxes, encoded, strict=True):
        step = (right - left) / max(1, len(word))
        for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if end > start:
                tokens.append(token)
                parts.append((left + start * step, top, left + end * step, bottom))
    return TokenBoxes(np.array(tokens, np.int32), np.array(parts, np.float32).reshape(-1, 4))
