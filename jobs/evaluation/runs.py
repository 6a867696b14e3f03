"""Runs: every question searched with every variant, by the same path as `quire search`."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from cluster.core import Filter, Hit, Query
from cluster.errors import InvalidInput
from jobs.evaluation.questions import Question
from jobs.evaluation.variants import Variant
from jobs.progress import Step
from models.retrieval.local import open_retriever
from models.retrieval.retriever import Rerank, Retriever


@dataclass(frozen=True, slots=True)
class RankedPage:
    """A page that was found, with the scores that led to it, without its text."""

    doc_id: str
    page: int
    tenant: str
    source: str
    dense: float | None = None
    text_score: float | None = None
    fused: float | None = None
    rerank: float | None = None
    maxsim: float | None = None

    @classmethod
    def of(cls, hit: Hit) -> "RankedPage":
        return cls(
            hit.doc_id,
            hit.page,
            hit.tenant,
            hit.source,
            hit.dense,
            hit.text_score,
            hit.fused,
            hit.rerank,
            hit.maxsim,
        )

    @property
    def key(self) -> tuple[str, int]:
        return self.doc_id, self.page

    @property
    def first_score(self) -> float:
        """The score by which the first stage ranked the page."""
        scores = (self.fused, self.dense, self.text_score)
        return next((score for score in scores if score is not None), 0.0)

    @property
    def second_score(self) -> float | None:
        """The score of the second stage: P("yes"), or MaxSim."""
        return self.maxsim if self.rerank is None else self.rerank


@dataclass(slots=True)
class Ranking:
    """What was found for one question: pages, best first; seconds by stage; what ordered them."""

    pages: list[RankedPage] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    ordered_by: Rerank = "none"
    error: str = ""  # why nothing could be searched for; counts as nothing found


@dataclass
class Run:
    """The rankings of one variant by question."""

    name: str
    rerank: str = "none"  # as the settings have it
    rankings: dict[str, Ranking] = field(default_factory=dict)


def run_variants(
    variants: Sequence[Variant], questions: Sequence[Question], wanted: Filter, step: Step
) -> list[Run]:
    """Search every question with every variant, one after the other; runs in that order.

    Variants that differ only in what a search takes as it comes share a retriever and its models.
    """
    runs = {}
    numbered = sorted(enumerate(variants), key=lambda each: str(each[1].opened_with()))
    for settings, group in groupby(numbered, key=lambda each: each[1].opened_with()):
        with open_retriever(settings) as retriever:
            for number, variant in group:
                runs[number] = _run_variant(retriever, variant, questions, wanted, step)
    return [runs[number] for number in range(len(variants))]


def _run_variant(
    retriever: Retriever,
    variant: Variant,
    questions: Sequence[Question],
    wanted: Filter,
    step: Step,
) -> Run:
    async def search_all() -> Run:
        run = Run(variant.name, variant.settings.rerank)
        for question in questions[:1]:  # models that are loaded now do not count
            await _search(retriever, variant, question, wanted)
        for number, question in enumerate(questions, start=1):
            run.rankings[question.id] = await _search(retriever, variant, question, wanted)
            step(f"asking ({variant.name})", number, len(questions))
        errors = [ranking.error for ranking in run.rankings.values() if ranking.error]
        if len(errors) == len(questions):
            raise InvalidInput(f"no question can be asked ({variant.name}): {errors[0]}")
        return run

    return asyncio.run(search_all())


async def _search(
    retriever: Retriever, variant: Variant, question: Question, wanted: Filter
) -> Ranking:
    sees = question.image and variant.settings.mode != "text"  # an image has no words
    image = Path(question.image).read_bytes() if sees else None
    try:
        found = await retriever.search(Query(question.text, image, wanted), variant.settings)
    except InvalidInput as error:  # of this question: the others are searched
        return Ranking(error=str(error))
    return Ranking(list(map(RankedPage.of, found.hits)), found.seconds, found.rerank)
