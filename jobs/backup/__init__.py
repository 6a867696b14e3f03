"""Backups of a store: rows, page files, uploads, keys and jobs in well-known files, and back."""
