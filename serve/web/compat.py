"""Texts and images of embedding and rerank requests, in the forms that clients send them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from cluster.errors import InvalidInput, NotFound, TooLarge
from cluster.settings import Settings
from models.images import image_size
from models.inputs import MultimodalInput
from models.registry import ModelSpec
from serve.web.images import image_bytes

MAX_INPUTS = 2048
MAX_CHARS = 1_000_000
MAX_LARGEST_IMAGES = 16  # so many images of the most pixels are a request's budget
Text = Annotated[str, Field(max_length=MAX_CHARS)]
ImageText = Annotated[str, Field(description="A data URL or base64; no URL is fetched.")]


class Foreign(BaseModel):
    """A body of another service's protocol: fields that mean nothing here are let pass."""

    model_config = ConfigDict(extra="allow")


class TextAndImage(Foreign):
    """A text, an image, or both."""

    text: Text = ""
    image: ImageText | None = None


class ImageUrl(Foreign):
    url: ImageText
    detail: str | None = None


class Part(Foreign):
    """One part of a message, as in OpenAI's chat: a text or an image."""

    type: Literal["text", "image_url"]
    text: Text | None = None
    image_url: ImageUrl | None = None


Parts = Annotated[list[Part], Field(min_length=1, max_length=64)]


class Message(Foreign):
    role: Literal["system", "user", "assistant"]
    content: Text | Parts


def to_input(
    item: str | TextAndImage, settings: Settings, instruction: str | None = None
) -> MultimodalInput:
    """Turn an item of a request into what the models take. Raises InvalidInput or TooLarge."""
    if isinstance(item, str):
        return MultimodalInput(text=item, instruction=instruction)
    images = (image_bytes(item.image, settings),) if item.image is not None else ()
    return MultimodalInput(text=item.text, images=images, instruction=instruction)


def from_parts(
    parts: list[Part], settings: Settings, instruction: str | None = None
) -> MultimodalInput:
    """Texts, joined by line breaks, and images. Raises InvalidInput or TooLarge."""
    texts, images = [], []
    for part in parts:
        if part.type == "text":
            texts.append(part.text or "")
        elif part.image_url is None:
            raise InvalidInput("a part of type image_url needs image_url.url")
        else:
            images.append(image_bytes(part.image_url.url, settings))
    return MultimodalInput(text="\n".join(texts), images=tuple(images), instruction=instruction)


def from_messages(messages: list[Message], settings: Settings) -> MultimodalInput:
    """vLLM's chat embedding: the system message is the instruction. Raises InvalidInput."""
    instruction = None
    parts: list[Part] = []
    for message in messages:
        content = message.content
        own = [Part(type="text", text=content)] if isinstance(content, str) else content
        if message.role == "system":
            if any(part.type != "text" for part in own):
                raise InvalidInput("messages: the system message is text, the instruction")
            instruction = "\n".join(part.text or "" for part in own)
        elif message.role == "user":
            parts += own
    if not parts:
        raise InvalidInput("messages: there is no user message to embed")
    return from_parts(parts, settings, instruction)


def check_model(asked: str | None, spec: ModelSpec) -> None:
    """Raise NotFound where a request names a model that is not served here."""
    if asked and asked not in (spec.name, spec.checkpoint):
        raise NotFound(f"the model {asked[:80]!r} is not served here: this service has {spec.name}")


def checked(items: list[MultimodalInput], settings: Settings) -> list[MultimodalInput]:
    """Return the same inputs, none of which is empty and whose images are not too many.

    Raises InvalidInput or TooLarge.
    """
    most = MAX_LARGEST_IMAGES * settings.max_query_image_pixels
    sizes = [
        image_size(image) for item in items for image in item.images if isinstance(image, bytes)
    ]
    if sum(width * height for width, height in sizes) > most:
        raise TooLarge(f"the images of one request may have {most:,} px in all: send them apart")
    for number, item in enumerate(items):
        if not item.text.strip() and not item.images:
            raise InvalidInput(f"input {number} is empty: give a text or an image")
    return items
