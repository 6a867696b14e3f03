"""quire-tiny: the embedded default checkpoint, and how it was trained."""
