"""Vectors as files: a collection out and in, foreign vectors in, and embedding without a store."""
