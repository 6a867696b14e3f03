"""An object store for tests of files behind a URL."""

from collections.abc import Iterator

import fsspec
import pytest


@pytest.fixture
def bucket() -> Iterator[fsspec.AbstractFileSystem]:
    """An object store that lives in this process."""
    memory = fsspec.filesystem("memory")
    yield memory
    memory.rm("/", recursive=True)
