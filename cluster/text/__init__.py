"""Page text as the index takes it: chunks, terms, and the snippets that hits show."""
