"""Chunks of a page's text."""

from hypothesis import assume, given
from hypothesis import strategies as st

from cluster.text.chunks import chunk_text


def test_chunks_share_their_overlap() -> None:
    assert chunk_text("abcdefghij", chars=4, overlap=1) == ["abcd", "defg", "ghij"]
    assert chunk_text("abcdefghijk", chars=4, overlap=1) == ["abcd", "defg", "ghij", "jk"]
    assert chunk_text("  ab \n", chars=4, overlap=1) == ["ab"]
    assert chunk_text(" \n", chars=4, overlap=1) == []


@given(st.text(), st.integers(1, 20), st.integers(0, 19))
def test_chunks_cover_the_text(text: str, chars: int, overlap: int) -> None:
    assume(overlap < chars)
    stripped = text.strip()
    chunks = chunk_text(text, chars=chars, overlap=overlap)
    joined = "".join(
        chunk if not number else chunk[overlap:] for number, chunk in enumerate(chunks)
    )
    assert joined == stripped
    assert all(0 < len(chunk) <= chars for chunk in chunks)
    # Only the last may be short, and none repeats what another holds already.
    assert all(len(chunk) == chars for chunk in chunks[:-1])
    assert len(chunks) <= 1 or len(chunks[-1]) > overlap
