"""Milvus, embedded or a server: schema, filters, writes and searches of one collection."""
