"""Qwen3-VL: inputs to packed tokens, the forward without padding, embedder and reranker."""
