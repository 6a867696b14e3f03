"""quire-tiny-colqwen3, the late-interaction checkpoint in the repository, and how it was made."""
