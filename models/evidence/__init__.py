"""Where on a page the answer is: regions by words, by late interaction or by the embedder."""
