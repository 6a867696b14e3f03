"""Page text → overlapping chunks."""


def chunk_text(text: str, *, chars: int, overlap: int) -> list[str]:
    """Stretches of at most `chars` characters, each sharing `overlap` with the one before."""
    stripped = text.strip()
    if not stripped:
        return []
    step = chars - overlap
    last_start = max(0, len(stripped) - overlap)
    return [stripped[start : start + chars] for start in range(0, max(1, last_start), step)]
