"""The foundation: nouns, settings, Ray bring-up, Milvus, page images. Imports no other room."""
