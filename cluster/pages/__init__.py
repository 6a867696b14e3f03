"""Files that are kept of each page beside the index: its image, its words, its multi-vectors."""
