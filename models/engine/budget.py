"""Batches under a budget of tokens, and what is done when the memory of a GPU runs out."""

import logging
from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import TypeVar

import torch

from cluster.errors import InvalidInput, OutOfMemory

log = logging.getLogger(__name__)
REFUSALS = ("out of memory", "ALLOC_FAILED")
Item = TypeVar("Item")
Result = TypeVar("Result")


def refusal_of(error: RuntimeError) -> str:
    """Return the message of a lack of memory; raise any other error.

    torch has a type for its own allocator's refusals; libraries' are RuntimeErrors by their text.
    """
    words = str(error)
    if isinstance(error, torch.OutOfMemoryError) or any(each in words for each in REFUSALS):
        return words
    raise error


class TokenBudget:
    """The tokens that one model computes at once; halved, once, where memory runs out.

    Safe to use from several threads: what two of them planned with runs out for both, and is halved
    once.
    `on_refusal` is called whenever it runs out.
    """

    def __init__(self, model: str, tokens: int) -> None:
        self.model = model
        self.tokens = tokens
        self.halved = False
        self.on_refusal: Callable[[], None] = lambda: None
        self._halving = Lock()

    def map(
        self,
        compute: Callable[[list[Item]], Iterable[Result]],
        items: Sequence[Item],
        tokens: Sequence[int],
    ) -> list[Result]:
        """Compute each item's result, a batch under the budget at a time.

        An item over the budget is alone in its batch. Raises OutOfMemory.
        """
        results: dict[int, Result] = {}
        while True:
            planned = self.tokens
            try:
                for batch in _plan(tokens, results, planned):
                    made = compute([items[index] for index in batch])
                    results.update(zip(batch, made, strict=True))
                return [results[index] for index in range(len(items))]
            except RuntimeError as error:
                refusal = refusal_of(error)
            # Not before here: the error holds the tensors of the batch that failed.
            self._refused()
            self._halve(refusal, planned)

    def whole(self, compute: Callable[[], Result]) -> Result:
        """Compute what cannot be split. Raises OutOfMemory."""
        try:
            return compute()
        except RuntimeError as error:
            refusal = refusal_of(error)
        self._refused()
        raise self._error(refusal)

    def _refused(self) -> None:
        self.on_refusal()
        torch.cuda.empty_cache()  # nothing where there is no GPU

    def _halve(self, refusal: str, planned: int) -> None:
        with self._halving:
            if self.tokens < planned:  # another thread has
                return
            if self.halved:
                raise self._error(refusal)
            self.tokens = max(1, planned // 2)
            self.halved = True
        log.warning(
            "%s ran out of memory with batches of %d tokens and goes on with %d: %s",
            self.model,
            planned,
            self.tokens,
            refusal,
        )

    def _error(self, refusal: str) -> OutOfMemory:
        return OutOfMemory(
            f"{self.model} ran out of memory with batches of {self.tokens} tokens: lower its "
            f"batch_tokens or max_pixels, or let `quire plan` choose them ({refusal})"
        )


def _plan(tokens: Sequence[int], done: dict[int, Result], budget_tokens: int) -> list[list[int]]:
    """Return indices of what is left by batch; an input over the budget is alone in its own."""
    left = [index for index in range(len(tokens)) if index not in done]
    sizes = [min(tokens[index], budget_tokens) for index in left]
    return [[left[place] for place in batch] for batch in plan_batches(sizes, budget_tokens)]


def plan_batches(tokens: Sequence[int], budget_tokens: int) -> list[list[int]]:
    """Indices of inputs by batch; no batch exceeds the budget.

    First-fit decreasing: longest first into the first batch with room, so that batches are few
    and full, and inputs of like length meet. Raises InvalidInput for an input over the budget.
    """
    batches: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(tokens)), key=lambda i: -tokens[i]):
        need = tokens[index]
        if need > budget_tokens:
            raise InvalidInput(
                f"an input of {need} tokens exceeds the batch budget of {budget_tokens}: raise "
                "batch_tokens or lower max_pixels"
            )
        place = next((i for i, free in enumerate(room) if free >= need), None)
        if place is None:
            batches.append([index])
            room.append(budget_tokens - need)
        else:
            batches[place].append(index)
            room[place] -= need
    return batches
