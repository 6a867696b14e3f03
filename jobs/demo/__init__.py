"""The demo: a made-up library of PDFs, and the searches that show what Quire does."""
