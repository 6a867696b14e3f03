"""Threads of the router: what waits for whom."""

import asyncio
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.settings import load_settings
from serve.deployments.models import ServedModels
from serve.router import TRANSFER_THREADS, Router


class Held(io.BytesIO):
    """A file whose bytes come when they are let go."""

    def __init__(self, go: threading.Event, started: threading.Semaphore) -> None:
        super().__init__(b"%PDF-1.7")
        self.go, self.started = go, started

    def read(self, size: int | None = -1) -> bytes:
        self.started.release()
        self.go.wait(30)
        return super().read(size)


@pytest.fixture
def router(tmp_path: Path) -> Iterator[Router]:
    settings = load_settings(store="http://127.0.0.1:1", shared_folder=str(tmp_path))
    models = ServedModels.from_settings(settings, has_gpu=False)
    names = ("embedder", "reranker", "late_interaction", "quality")
    router = Router(settings, models, (), dict.fromkeys(names), None, is_local=True)
    yield router
    router.close()


def test_uploads_that_take_their_time_hold_up_no_picture(router: Router) -> None:
    go, started = threading.Event(), threading.Semaphore(0)

    async def run() -> str:
        uploads = [
            asyncio.create_task(router.keep_upload("", f"{number}.pdf", Held(go, started)))
            for number in range(2 * TRANSFER_THREADS)
        ]
        for _ in range(TRANSFER_THREADS):
            assert await asyncio.to_thread(started.acquire, timeout=30)
        drawn = await asyncio.wait_for(router.in_background(lambda: "drawn"), 20)
        go.set()
        await asyncio.gather(*uploads)
        return drawn

    assert asyncio.run(run()) == "drawn"
