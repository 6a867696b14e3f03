"""Work over many documents, on Ray Data where it is sharded, and what a command starts."""
