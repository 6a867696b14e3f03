"""How the matcher learns: from queries on training pages and their candidates, with gradients."""

import logging
import random
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from recipes.tiny_reranker.candidates import CANDIDATES, Ranking
from recipes.tiny_reranker.matcher import (
    FEATURE_GAINS,
    FEATURES,
    LIKENESS,
    QUERY_SINK,
    Matcher,
)
from recipes.tiny_reranker.matches import collect

log = logging.getLogger(__name__)


def idf_weights(rankings: Sequence[Ranking], vocab_size: int) -> torch.Tensor:
    """(V,) inverse document frequencies in a sample of the documents, about 1."""
    seen = np.zeros(vocab_size)
    documents = [document for ranking in rankings[::7] for document in ranking.documents[:4]]
    for document in documents:
        seen[np.unique(document)] += 1
    idf = torch.from_numpy(np.log((len(documents) + 1) / (seen + 0.5))).float()
    return idf.clamp(min=0.05) / 6.0


def train_matcher(
    rankings: Sequence[Ranking],
    vocab_size: int,
    epochs: int,
    seed: int,
    batch: int = 32,
    lr: float = 0.005,
    noise: float = 0.01,
) -> Matcher:
    """All weights by Adam, on words alone. Features are off by `noise`, as they are in bfloat16."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    matcher = Matcher(idf_weights(rankings, vocab_size), seed)
    ordered = sorted(rankings, key=lambda ranking: len(ranking.query))
    batches = [
        collect(ordered[first : first + batch])
        for first in range(0, len(ordered) - batch + 1, batch)
    ]
    optimiser = torch.optim.Adam(matcher.parameters(), betas=(0.9, 0.99))
    steps = epochs * len(batches)
    order = [i for _ in range(epochs) for i in rng.sample(range(len(batches)), len(batches))]
    running = None
    for step, number in enumerate(order):
        for group in optimiser.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 50, 1.02 - step / steps)
        features = matcher.features(batches[number])
        features = features * (1 + noise * torch.randn_like(features))
        scores = matcher.score(features).view(batch, -1)
        loss = ranking_loss(scores)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(matcher.parameters(), 5.0)
        optimiser.step()
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        if step % 100 == 0 or step == steps - 1:
            log.info("matcher step %d of %d: loss %.3f", step, steps, running)
    return matcher


def ranking_loss(scores: torch.Tensor) -> torch.Tensor:
    """(Q, CANDIDATES) logits, the answer first: softmax over candidates, and logistic for 0.5.

    Answers weigh `CANDIDATES / 6` times as much in the latter.
    """
    target = torch.zeros_like(scores)
    target[:, 0] = 1.0
    weight = torch.tensor(CANDIDATES / 6)
    loss = functional.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long))
    return loss + functional.binary_cross_entropy_with_logits(scores, target, pos_weight=weight)


def train_score(
    matcher: Matcher,
    rankings: Sequence[Ranking],
    likeness: tuple[torch.Tensor, torch.Tensor],
    steps: int,
    seed: int,
    batch: int = 128,
    lr: float = 0.003,
    noise: float = 0.01,
) -> None:
    """The last MLP again, in place, on queries of words, of an image, and of both.

    `likeness` holds samples of how alike screenshots are to their own page, and to other pages.
    """
    torch.manual_seed(seed)
    with torch.no_grad():
        firsts = range(0, len(rankings), 32)
        parts = [matcher.features(collect(rankings[first : first + 32])) for first in firsts]
        words = torch.cat(parts).view(len(rankings), CANDIDATES, FEATURES)
        # A query without words: nothing but the marker in it, and no match.
        image = torch.zeros(FEATURES)
        image[5] = FEATURE_GAINS[5] / (QUERY_SINK + 1)
    own, others = likeness
    parameters = [*matcher.gate.parameters(), *matcher.up.parameters(), *matcher.down.parameters()]
    optimiser = torch.optim.Adam(parameters, betas=(0.9, 0.99))
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 50, 1.02 - step / steps)
        features = words[torch.randint(len(words), (batch,))].clone()
        kind = torch.rand(batch)
        only_image, any_image = kind < 0.2, kind < 0.4
        lengths = features[only_image][..., 2].clone()
        features[only_image] = image
        features[only_image, :, 2] = lengths
        alike = others[torch.randint(len(others), (batch, CANDIDATES))]
        alike[:, 0] = own[torch.randint(len(own), (batch,))]
        features[..., LIKENESS] = torch.where(any_image[:, None], alike, features[..., LIKENESS])
        features = features * (1 + noise * torch.randn_like(features))
        scores = matcher.score(features.flatten(0, 1)).view(batch, CANDIDATES)
        loss = torch.zeros(())
        for chosen in (only_image, any_image & ~only_image, ~any_image):
            loss = loss + ranking_loss(scores[chosen]) * chosen.float().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 200 == 0 or step == steps - 1:
            log.info("score step %d of %d: loss %.3f", step, steps, loss.item())
