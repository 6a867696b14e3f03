"""What tests ask of a service, and how they read its answers."""

import base64
import json
from typing import Any

import httpx
import pymupdf


def search(client: httpx.Client, **body: Any) -> dict[str, Any]:
    response = client.post("/v1/search", json=body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def data_url(image: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def problem(response: httpx.Response) -> tuple[int, str]:
    """Status and type of an error, which has the one shape."""
    error = response.json()["error"]
    assert set(error) == {"type", "message", "param"}
    return response.status_code, error["type"]


def a_pdf(text: str) -> bytes:
    document = pymupdf.open()
    document.new_page().insert_text((72, 72), text)
    data: bytes = document.tobytes()
    return data


def finished(client: httpx.Client, job_id: str) -> list[dict[str, Any]]:
    """Every event of a job, the last one included, as its stream has them."""
    events: list[dict[str, Any]] = []
    with client.stream("GET", f"/v1/jobs/{job_id}/events", timeout=120) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        event = number = ""
        for line in response.iter_lines():
            if line.startswith("event: "):
                event = line[7:]
            elif line.startswith("id: "):
                number = line[4:]
            elif line.startswith("data: "):
                events.append({"event": event, "id": int(number), **json.loads(line[6:])})
    return events
