"""A search asked of a running Quire: nothing is loaded here, and its answer becomes hits."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from cluster.core import Filter, Hit
from cluster.errors import (
    Forbidden,
    InvalidInput,
    NotFound,
    QuireError,
    ServiceUnavailable,
    Unauthorized,
)

ERRORS: dict[int, type[QuireError]] = {
    400: InvalidInput,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    413: InvalidInput,
}


@dataclass(frozen=True)
class Service:
    """Where a Quire listens (http://host:8000), and the key that it knows us by, if any."""

    url: str
    key: str = field(default="", repr=False)
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        """Check the address. Raises InvalidInput."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput(f"--url {self.url!r} is no address: write http://host:8000")

    def search(self, body: Mapping[str, Any], collection: str | None = None) -> list[Hit]:
        """Return the hits that `POST /v1/search` answers with, best first.

        Their `text` is the service's snippet, and their `source` the file's name. Raises
        ServiceUnavailable, or what the service says: InvalidInput, Unauthorized, Forbidden or
        NotFound.
        """
        query = "?" + urlencode({"collection": collection}) if collection else ""
        answer = self._post(f"/v1/search{query}", body)
        try:
            return [_hit(each) for each in answer["hits"]]
        except (TypeError, KeyError) as error:
            raise self._no_quire() from error

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = Request(  # noqa: S310 — the scheme is checked
            self.url.rstrip("/") + path, json.dumps(body).encode(), headers, method="POST"
        )
        try:
            with build_opener(_NoRedirects).open(request, timeout=self.timeout_s) as response:
                return json.load(response)
        except HTTPError as error:
            raise self._refusal(error) from error
        except TimeoutError as error:
            raise ServiceUnavailable(
                f"{self.url} did not answer within {self.timeout_s:g} s: try again, or set "
                "request_timeout_s"
            ) from error
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise ServiceUnavailable(
                f"{self.url} cannot be reached ({reason}): is `quire serve` running there?"
            ) from error
        except ValueError as error:
            raise self._no_quire() from error

    def _refusal(self, error: HTTPError) -> QuireError:
        """Return the error that a status stands for, with what the service says."""
        try:
            problem = json.load(error)["error"]
            message, param = str(problem["message"]), problem.get("param")
        except (ValueError, TypeError, KeyError):
            return self._no_quire(error.code)
        message = f"{param}: {message}" if param else message
        if error.code == 401:
            sent = "does not take this key" if self.key else "wants a key"
            return Unauthorized(f"{self.url} {sent}: set QUIRE_API_KEY ({message})")
        if error.code in ERRORS:
            return ERRORS[error.code](message)
        wait = error.headers.get("Retry-After")
        again = f"; try again in {wait} s" if wait else ""
        return ServiceUnavailable(f"{self.url} answers {error.code}: {message}{again}")

    def _no_quire(self, status: int = 200) -> ServiceUnavailable:
        return ServiceUnavailable(
            f"{self.url} does not answer as a Quire service does (status {status}): is it the "
            "address of `quire serve`?"
        )


class _NoRedirects(HTTPRedirectHandler):
    """A key goes to the address that was named, and nowhere else."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


def search_body(
    text: str, image: Path | None, wanted: Filter, condition: str | None, choices: dict[str, Any]
) -> dict[str, Any]:
    """Return the body of a search; what is None is left to the service.

    `condition` is in the language of filters; the service reads it. Raises NotFound or
    InvalidInput.
    """
    filters = {
        "tenant": wanted.tenant,
        "tags": list(wanted.tags),
        "doc_ids": list(wanted.doc_ids),
        "metadata": wanted.metadata,
        "after": wanted.after and wanted.after.isoformat(),
        "before": wanted.before and wanted.before.isoformat(),
        "min_cer": wanted.min_cer,
        "max_cer": wanted.max_cer,
    }
    body: dict[str, Any] = {"text": text, "filters": filters}
    if image is not None:
        if not image.is_file():
            raise NotFound(f"there is no image at {image}")
        body["image"] = base64.b64encode(image.read_bytes()).decode()
    if condition:
        try:
            body["filter"] = json.loads(condition)
        except ValueError as error:
            raise InvalidInput(f"--filter is no JSON: {error}") from error
    return body | {name: value for name, value in choices.items() if value is not None}


def _hit(body: dict[str, Any]) -> Hit:
    scores = body["scores"]
    return Hit(
        doc_id=body["doc_id"],
        page=body["page"],
        title=body["title"],
        source=body["source"],
        text=body["snippet"],
        tenant=body["tenant"],
        tags=tuple(body["tags"]),
        metadata=body["metadata"],
        dense=scores["dense"],
        text_score=scores["text"],
        fused=scores["fused"],
        rerank=scores["rerank"],
        maxsim=scores["maxsim"],
        expected_cer=body["expected_cer"],
    )
