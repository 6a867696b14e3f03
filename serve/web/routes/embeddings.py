"""Embeddings in the protocols of OpenAI (`/v1/embeddings`) and Cohere (`/v2/embed`)."""

import base64
import uuid
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import ConfigDict, Field

from cluster.errors import InvalidInput
from models.inputs import MultimodalInput
from serve.deployments.embedder import Embedded
from serve.router import Router
from serve.web.compat import (
    MAX_INPUTS,
    Foreign,
    ImageText,
    Message,
    Parts,
    Text,
    TextAndImage,
    check_model,
    checked,
    from_messages,
    from_parts,
    to_input,
)
from serve.web.dependencies import Deadline, Searcher, Serving

routes = APIRouter(tags=["embeddings"])
CohereType = Literal["float", "base64", "int8", "uint8", "binary", "ubinary"]
Inputs = Annotated[list[Text | TextAndImage], Field(min_length=1, max_length=MAX_INPUTS)]


class EmbeddingsRequest(Foreign):
    """OpenAI's body; beside strings, objects with text and image, or vLLM's `messages`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "quire-tiny", "input": ["cracked seat tube", "焙煎"]}]
        }
    )

    model: str | None = None
    input: Text | TextAndImage | Inputs | list[int] | list[list[int]] | None = None
    messages: list[Message] | None = Field(None, min_length=1, max_length=64)
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1, le=65_536)
    instruction: str | None = Field(None, max_length=4096)


class CohereInput(Foreign):
    content: Parts


class CohereEmbedRequest(Foreign):
    """Cohere's body: texts, images (data URLs), or inputs that mix them."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "quire-tiny",
                    "input_type": "search_query",
                    "texts": ["cracked seat tube"],
                    "embedding_types": ["float"],
                }
            ]
        }
    )

    model: str
    input_type: str | None = None
    texts: list[Text] | None = Field(None, max_length=MAX_INPUTS)
    images: list[ImageText] | None = Field(None, max_length=MAX_INPUTS)
    inputs: list[CohereInput] | None = Field(None, max_length=MAX_INPUTS)
    embedding_types: list[CohereType] = Field(["float"], min_length=1, max_length=6)
    output_dimension: int | None = Field(None, ge=1, le=65_536)


@routes.post("/v1/embeddings")
async def embeddings(
    asked: EmbeddingsRequest, service: Serving, caller: Searcher, deadline: Deadline
) -> JSONResponse:
    """Vectors of texts and images, unit length."""
    spec = service.models.embedder_spec
    check_model(asked.model, spec)
    items = await service.in_background(_openai_inputs, asked, service)
    embedded = await service.embed(items, deadline)
    vectors = shortened(embedded.vectors, asked.dimensions)
    used = sum(embedded.tokens)
    body = {
        "object": "list",
        "model": spec.name,
        "data": [
            {"object": "embedding", "index": index, "embedding": _encoded(vector, asked)}
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": used, "total_tokens": used},
    }
    return JSONResponse(body)  # FastAPI would look at every number of a dict once more


@routes.post("/v2/embed")
async def cohere_embed(
    asked: CohereEmbedRequest, service: Serving, caller: Searcher, deadline: Deadline
) -> JSONResponse:
    """Vectors of texts and images by type, unit length."""
    check_model(asked.model, service.models.embedder_spec)
    items = await service.in_background(_cohere_inputs, asked, service)
    embedded = await service.embed(items, deadline)
    vectors = shortened(embedded.vectors, asked.output_dimension)
    body = {
        "id": str(uuid.uuid4()),
        "response_type": "embeddings_by_type",
        "embeddings": {
            kind: _by_type(vectors, kind) for kind in dict.fromkeys(asked.embedding_types)
        },
        "texts": asked.texts or [],
        "meta": {"api_version": {"version": "2"}, "billed_units": _billed(items, embedded)},
    }
    return JSONResponse(body)


def shortened(vectors: np.ndarray, dimensions: int | None) -> np.ndarray:
    """The first `dimensions` components at unit length. Raises InvalidInput."""
    if dimensions is None:
        return vectors
    if dimensions > vectors.shape[1]:
        raise InvalidInput(f"this model has {vectors.shape[1]} dimensions, not {dimensions}")
    short = vectors[:, :dimensions]
    length = np.linalg.norm(short, axis=1, keepdims=True)
    return np.asarray(short / np.maximum(length, 1e-12), dtype=np.float32)


def _openai_inputs(asked: EmbeddingsRequest, service: Router) -> list[MultimodalInput]:
    if (asked.input is None) == (asked.messages is None):
        raise InvalidInput("give either input or messages")
    if asked.messages is not None:
        return checked([from_messages(asked.messages, service.settings)], service.settings)
    given = asked.input if isinstance(asked.input, list) else [asked.input]
    if not given or not all(isinstance(item, str | TextAndImage) for item in given):
        raise InvalidInput(
            "input is a text, an object with text and image, or a list of these: token ids are of "
            "another model's vocabulary"
        )
    items = [to_input(item, service.settings, asked.instruction) for item in given]  # type: ignore[arg-type]
    return checked(items, service.settings)


def _cohere_inputs(asked: CohereEmbedRequest, service: Router) -> list[MultimodalInput]:
    settings = service.settings
    items = [to_input(text, settings) for text in asked.texts or []]
    items += [to_input(TextAndImage(image=image), settings) for image in asked.images or []]
    items += [from_parts(each.content, settings) for each in asked.inputs or []]
    if not 1 <= len(items) <= MAX_INPUTS:
        raise InvalidInput(f"give 1 to {MAX_INPUTS} texts, images or inputs")
    return checked(items, settings)


def _encoded(vector: np.ndarray, asked: EmbeddingsRequest) -> Any:
    if asked.encoding_format == "base64":
        return _base64(vector)
    return vector.tolist()


def _base64(vector: np.ndarray) -> str:
    """Little-endian float32, as OpenAI's and Cohere's clients read it."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _by_type(vectors: np.ndarray, kind: CohereType) -> list[Any]:
    """Vectors in one of Cohere's types; integers are components × 127, bits their signs."""
    if kind == "base64":
        return [_base64(vector) for vector in vectors]
    if kind == "float":
        return list(vectors.tolist())
    if kind in ("int8", "uint8"):
        whole = np.rint(vectors * 127).astype(int) + (128 if kind == "uint8" else 0)
        return list(whole.tolist())
    bits = np.packbits(vectors > 0, axis=1).astype(int)
    return list((bits - 128 if kind == "binary" else bits).tolist())


def _billed(items: list[MultimodalInput], found: Embedded) -> dict[str, int]:
    return {"input_tokens": sum(found.tokens), "images": sum(len(item.images) for item in items)}
