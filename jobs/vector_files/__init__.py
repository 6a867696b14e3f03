"""Vectors of collections as files: Parquet and NPZ."""
