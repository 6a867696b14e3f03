"""Routes by subject, each a module with its own router of FastAPI."""
