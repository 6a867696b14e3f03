"""How alike two images look: a small pooling on the frozen vision tower of quire-tiny.

Every visual token gets LOOK_DIMS features and two scores; each half of the features is pooled by
its own score. The text tower computes the same (see `circuit.py`), at the document's marker for
the query's images and in the closing token for the document's.
"""

import logging
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from transformers import Qwen3VLModel

from recipes.tiny.architecture import MAX_PIXELS, WORD_DIMS
from recipes.tiny.circuit import LOOK_SCORES
from recipes.tiny.images import Grey, PageImages
from recipes.tiny.look import patchify
from recipes.tiny.pairs import Phase, batches
from recipes.tiny_reranker import architecture as arch

log = logging.getLogger(__name__)

# Lengths of the constant parts of a key, beside which a score is turned into a logit.
QUERY_REST = 156.0**0.5
DOCUMENT_REST = 216.0**0.5
FIRST_SCORE = 12.0
LENGTH = 8.0


@dataclass(frozen=True)
class LookPair:
    """Visual tokens [n, HIDDEN of quire-tiny] in float16 of a screenshot and of its page."""

    shot: torch.Tensor
    page: torch.Tensor


class LookPooling(nn.Module):
    """Features and scores of visual tokens; cosine of what is pooled from two images."""

    def __init__(self, hidden: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.features = nn.Parameter(
            torch.randn(arch.LOOK_DIMS, hidden, generator=generator) / WORD_DIMS**0.5
        )
        self.scores = nn.Parameter(torch.zeros(2, hidden))
        self.log_scale = nn.Parameter(torch.tensor(2.5))
        with torch.no_grad():
            self.features[:, WORD_DIMS:] = 0.0
            self.scores[:, LOOK_SCORES] = 0.3

    def pool(self, tokens: torch.Tensor, rest: float) -> torch.Tensor:
        """[n, hidden] → (LOOK_DIMS,), as two attention heads whose keys are `rest` long."""
        features = tokens @ self.features.T
        scores = FIRST_SCORE + tokens @ self.scores.T
        logits = arch.GAINS[1] * scores / (scores.square() + rest**2).sqrt()
        halves = features.unflatten(-1, (2, -1))
        return torch.einsum("nh,nhd->hd", logits.softmax(0), halves).flatten()

    def likeness(self, query: torch.Tensor, document: torch.Tensor) -> torch.Tensor:
        """Pooled [..., LOOK_DIMS] of both → the weight that the closing token gives to the look."""
        length = (document.square().sum(-1) + arch.LOOK_TILT**2 + arch.LOOK_REST**2).sqrt()
        query = query / (query.square().sum(-1, keepdim=True) + 1.0).sqrt()
        logits = arch.SUM_GAIN * ((query * document).sum(-1) - arch.LOOK_TILT) / length
        weight: torch.Tensor = (logits - math.log(arch.STARTS)).sigmoid()
        return weight


@torch.inference_mode()
def look_pairs(
    checkpoint: Path, images: PageImages, count: int, batch: int, seed: int
) -> list[list[LookPair]]:
    """Batches of screenshots and pages as the vision tower of a quire-tiny checkpoint sees them."""
    visual = Qwen3VLModel.from_pretrained(checkpoint, dtype=torch.float32).visual.eval()
    phase = Phase(share=1.0, steps=count, batch=batch, lr=0.0)
    out = []
    for shots, views in batches(images, MAX_PIXELS, phase, 4, seed):
        seen = [_tokens(visual, image) for image in (*shots, *views)]
        out.append([LookPair(s, p) for s, p in zip(seen[:batch], seen[batch:], strict=True)])
        log.info("look batch %d of %d", len(out), count)
    return out


def _tokens(visual: nn.Module, image: Grey) -> torch.Tensor:
    grey = torch.from_numpy(patchify(image)).view(-1, 1, 1, 256)
    pixels = grey.expand(-1, 3, 2, 256).flatten(1)
    grid = torch.tensor([[1, image.shape[0] // 16, image.shape[1] // 16]])
    seen = visual(pixels, grid_thw=grid)
    tokens: torch.Tensor = seen.pooler_output + seen.deepstack_features[0]
    return tokens.half()


def train_look(
    pairs: Sequence[Sequence[LookPair]], steps: int, seed: int, lr: float = 0.002
) -> LookPooling:
    """InfoNCE from screenshots to pages; four pages of each document are in a batch."""
    pooling = LookPooling(pairs[0][0].shot.shape[1], seed)
    optimiser = torch.optim.Adam(pooling.parameters())
    running = None
    for step, number in zip(range(steps), _cycle(len(pairs), seed), strict=False):
        for group in optimiser.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 10, 1.02 - step / steps)
        queries, documents = pooled(pooling, pairs[number])
        cosines = functional.normalize(queries, dim=-1) @ functional.normalize(documents, dim=-1).T
        target = torch.arange(len(queries))
        scores = cosines * pooling.log_scale.exp()
        loss = functional.cross_entropy(scores, target) + functional.cross_entropy(scores.T, target)
        lengths = torch.cat([queries, documents]).norm(dim=-1)
        loss = loss / 2 + 0.01 * (lengths - LENGTH).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        running = loss.item() if running is None else 0.95 * running + 0.05 * loss.item()
        if step % 20 == 0 or step == steps - 1:
            right = (scores.argmax(1) == target).float().mean().item()
            log.info("look step %d of %d: loss %.3f, right %.2f", step, steps, running, right)
    return pooling


def pooled(pooling: LookPooling, pairs: Sequence[LookPair]) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, LOOK_DIMS) of the screenshots and of the pages."""
    queries = torch.stack([pooling.pool(pair.shot.float(), QUERY_REST) for pair in pairs])
    documents = torch.stack([pooling.pool(pair.page.float(), DOCUMENT_REST) for pair in pairs])
    return queries, documents


@torch.no_grad()
def likeness(
    pooling: LookPooling, samples: Sequence[Sequence[LookPair]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples of how alike screenshots are to their own page, and to other pages."""
    own, others = [], []
    for pairs in samples:
        queries, documents = pooled(pooling, pairs)
        alike = pooling.likeness(queries[:, None], documents[None])
        same = torch.eye(len(pairs), dtype=torch.bool)
        own.append(alike[same])
        others.append(alike[~same])
    return torch.cat(own), torch.cat(others)


def _cycle(count: int, seed: int) -> Iterator[int]:
    rng = random.Random(seed)
    while True:
        yield from rng.sample(range(count), count)
