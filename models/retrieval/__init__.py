"""One path of every search: embed, find candidates, rerank."""
