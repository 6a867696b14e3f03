"""What tests share: one Ray for jobs, the made-up library, indexed once, and a service over it.

Tests that use one of them, a Milvus Lite, a browser or another program are marked `services`.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.demo.library import write_library
from tests.support.ray_process import RayProcess
from tests.support.s3 import S3Server, reserve_s3_address, running_s3
from tests.support.serving import Server, running

SERVICES = {"ray_process", "server", "milvus", "browser", "s3"}
# Tesseract, rendering processes, kustomize: programs of their own, and slow to start.
PROGRAMS = {"labels", "renderer", "good", "sets"}
FOLDERS = ("tests/k8s/", "tests/jobs/rendering/")  # all of whose tests start programs


def pytest_configure() -> None:
    """Let every process that a test starts know where the S3 server will be."""
    reserve_s3_address()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a Ray, a server, a browser or a program: `make test-quick` leaves it out."""
    for item in items:
        uses_fixture = (SERVICES | PROGRAMS) & set(getattr(item, "fixturenames", ()))
        if uses_fixture or item.nodeid.startswith(FOLDERS):
            item.add_marker("services")


@pytest.fixture(scope="session")
def ray_process() -> Iterator[RayProcess]:
    """A process with one Ray, for the jobs of every test."""
    process = RayProcess()
    yield process
    process.stop()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """An S3 server with a bucket; s3:// is it, in child processes too."""
    with running_s3() as server:
        yield server


@pytest.fixture(scope="session")
def indexed(tmp_path_factory: pytest.TempPathFactory, ray_process: RayProcess) -> tuple[Path, Path]:
    """The library's folder and a store in which it is indexed."""
    folder = tmp_path_factory.mktemp("serving")
    library, store = folder / "library", folder / "store"
    write_library(library)
    extras = ("--multi-vectors", "int8", "--quality", "on")
    to_store = ("--store", store, "--tag", "demo", "--json")
    ray_process.quire("ingest", library, *to_store, *extras, folder=folder)
    return library, store


@pytest.fixture(scope="session")
def server(indexed: tuple[Path, Path], ray_process: RayProcess) -> Iterator[Server]:
    """`quire serve` on loopback, without keys."""
    ray_process.stop()  # the service has a Ray of its own
    library, store = indexed
    with running(library, store) as found:
        yield found
