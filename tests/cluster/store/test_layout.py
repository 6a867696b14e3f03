"""Layouts of collections on a server: what Milvus is asked for, and vectors of narrow types."""

import json
from typing import Any

import numpy as np
import pytest
from pymilvus import DataType

from cluster.settings import load_settings
from cluster.store import schema
from cluster.store.layout import LITE, VECTOR_TYPES, Layout
from cluster.store.vectors import from_stored, to_stored


def fields_of(pages: Any) -> dict[str, Any]:
    return {field.name: field for field in pages[0].fields}


def indexes_of(pages: Any) -> dict[str, str]:
    return {index.field_name: index.to_dict().get("index_type", "") for index in pages[1]}


def test_a_server_has_what_the_settings_say() -> None:
    settings = load_settings(
        store="http://milvus:19530", milvus_index="hnsw", milvus_vectors="fp16", milvus_mmap=True
    )
    layout = Layout.from_settings(settings)
    pages = schema.rows_schema(64, "", layout)
    fields, indexes = fields_of(pages), indexes_of(pages)
    assert fields["vector"].dtype == DataType.FLOAT16_VECTOR
    assert fields["tenant_key"].is_partition_key
    assert indexes["vector"] == "HNSW" and indexes["time_ms"] == "STL_SORT"
    assert {indexes[name] for name in ("labels", "doc_key", "doc_id", "chunk")} == {"INVERTED"}
    assert layout.options == {
        "num_shards": 2,
        "num_partitions": 16,
        "properties": {"mmap.enabled": "true"},
    }
    documents = indexes_of(schema.documents_schema(layout))
    assert documents["source_key"] == documents["labels"] == "INVERTED"


def test_milvus_lite_has_one_layout() -> None:
    settings = load_settings(store="./here", milvus_vectors="int8", milvus_partitions=64)
    assert Layout.from_settings(settings) == LITE and LITE.options == {}
    pages = schema.rows_schema(64, "", LITE)
    assert set(indexes_of(pages)) == {"vector", "sparse"}
    assert not fields_of(pages)["tenant_key"].is_partition_key


def test_without_partitions_no_tenant_is_apart() -> None:
    settings = load_settings(store="http://milvus:19530", milvus_partitions=0)
    layout = Layout.from_settings(settings)
    assert not fields_of(schema.rows_schema(64, "", layout))["tenant_key"].is_partition_key
    assert "num_partitions" not in layout.options


@pytest.mark.parametrize(("kind", "least"), [("fp32", 1.0), ("fp16", 0.99999), ("int8", 0.9995)])
def test_vectors_of_every_type_keep_their_direction(kind: Any, least: float) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((100, 256)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for vector in vectors:
        stored = to_stored(vector, VECTOR_TYPES[kind])
        answered = vector if kind == "fp32" else [stored.tobytes()]  # as pymilvus answers
        back = from_stored(answered, VECTOR_TYPES[kind])
        cosine = float(back @ vector / np.linalg.norm(back))
        assert cosine >= least - 1e-6
    assert not np.any(to_stored(np.zeros(8), DataType.INT8_VECTOR))


def test_the_description_has_the_fingerprint() -> None:
    assert json.loads(schema.rows_schema(4, '{"format": 2}', LITE)[0].description) == {"format": 2}
