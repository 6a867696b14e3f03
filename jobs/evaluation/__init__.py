"""Evaluation: how well a collection is searched, by questions whose right pages are known."""
