"""quire-tiny-reranker: the embedded default reranker, and how it was trained."""
