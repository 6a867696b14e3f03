"""Reranking in the protocols of Jina and Cohere (`/v1/rerank`, `/v2/rerank`)."""

import uuid
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter
from pydantic import ConfigDict, Field

from models.inputs import MultimodalInput
from serve.deployments.reranker import Scored
from serve.router import Router
from serve.web.compat import Foreign, Text, TextAndImage, check_model, checked, to_input
from serve.web.dependencies import Deadline, Searcher, Serving

routes = APIRouter(tags=["rerank"])
MAX_DOCUMENTS = 1000
Documents = Annotated[list[Text | TextAndImage], Field(min_length=1, max_length=MAX_DOCUMENTS)]


class RerankRequest(Foreign):
    """Jina's and Cohere's first body; query and documents are texts or objects with an image."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "quire-tiny-reranker",
                    "query": "cracked seat tube",
                    "documents": ["Replace the frame.", "A cracked seat tube ends a ride."],
                    "top_n": 1,
                }
            ]
        }
    )

    model: str | None = None
    query: Text | TextAndImage
    documents: Documents
    top_n: int | None = Field(None, ge=1)
    return_documents: bool = False
    instruction: str | None = Field(None, max_length=4096)


class CohereRerankRequest(Foreign):
    """Cohere's second body."""

    model: str
    query: Text
    documents: list[Text] = Field(min_length=1, max_length=MAX_DOCUMENTS)
    top_n: int | None = Field(None, ge=1)


@routes.post("/v1/rerank")
async def rerank(
    asked: RerankRequest, service: Serving, caller: Searcher, deadline: Deadline
) -> dict[str, Any]:
    """Documents by how well they answer the query, best first."""
    scored = await _score(
        service, asked.model, asked.query, asked.documents, asked.instruction, deadline
    )
    results = _results(scored.scores, asked.top_n)
    if asked.return_documents:
        for result in results:
            document = asked.documents[result["index"]]
            result["document"] = (
                {"text": document} if isinstance(document, str) else document.model_dump()
            )
    return {
        "id": str(uuid.uuid4()),
        "model": service.models.reranker_spec.name,
        "results": results,
        "usage": {"total_tokens": scored.tokens},
        "meta": _meta("1"),
    }


@routes.post("/v2/rerank")
async def cohere_rerank(
    asked: CohereRerankRequest, service: Serving, caller: Searcher, deadline: Deadline
) -> dict[str, Any]:
    """Documents by how well they answer the query, best first."""
    scored = await _score(service, asked.model, asked.query, asked.documents, None, deadline)
    return {
        "id": str(uuid.uuid4()),
        "results": _results(scored.scores, asked.top_n),
        "meta": _meta("2"),
    }


async def _score(
    service: Router,
    model: str | None,
    query: str | TextAndImage,
    documents: Any,
    instruction: str | None,
    deadline: float,
) -> Scored:
    check_model(model, service.models.reranker_spec)
    settings = service.settings

    def read() -> tuple[MultimodalInput, list[MultimodalInput]]:
        question = checked([to_input(query, settings, instruction)], settings)[0]
        items = [to_input(document, settings) for document in documents]
        return question, checked(items, settings)

    question, items = await service.in_background(read)
    return await service.rerank(question, items, deadline)


def _results(scores: np.ndarray, top_n: int | None) -> list[dict[str, Any]]:
    order = np.argsort(-scores, kind="stable")[:top_n]
    return [{"index": int(index), "relevance_score": float(scores[index])} for index in order]


def _meta(version: str) -> dict[str, Any]:
    return {"api_version": {"version": version}, "billed_units": {"search_units": 1}}
