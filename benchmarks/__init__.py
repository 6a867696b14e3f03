"""Measurements behind the claims: `python -m benchmarks.embedder`, `.store`, `.retrieval`."""
