"""The ingest: check, render, embed and write every page, and report what became of each input."""
