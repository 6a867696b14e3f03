"""How new collections are laid out in Milvus: index, type of vectors, shards, partitions.

Milvus Lite knows one layout: fp32 vectors, its own index, nothing else. What a collection has is
read from Milvus, so that collections of any layout can be used side by side.
"""

from dataclasses import dataclass
from typing import Any, Literal

from pymilvus import DataType

from cluster.settings import Settings

VectorIndex = Literal["auto", "hnsw", "ivf_flat", "diskann", "flat"]
VectorType = Literal["fp32", "fp16", "int8"]
VECTOR_TYPES: dict[VectorType, Any] = {
    "fp32": DataType.FLOAT_VECTOR,
    "fp16": DataType.FLOAT16_VECTOR,
    "int8": DataType.INT8_VECTOR,
}
# What an index is built with, by Milvus' own advice for each kind.
_INDEX_OPTIONS: dict[VectorIndex, tuple[str, dict[str, int]]] = {
    "auto": ("AUTOINDEX", {}),
    "hnsw": ("HNSW", {"M": 16, "efConstruction": 200}),
    "ivf_flat": ("IVF_FLAT", {"nlist": 1024}),
    "diskann": ("DISKANN", {}),
    "flat": ("FLAT", {}),
}


@dataclass(frozen=True)
class Layout:
    """The layout of collections that are made from now on; by default Milvus Lite's.

    `partitions`: of tenants; 0 for none, where every tenant's rows lie together.
    """

    is_server: bool = False
    index: VectorIndex = "auto"
    vectors: VectorType = "fp32"
    mmap: bool = False
    shards: int = 1
    partitions: int = 0

    @classmethod
    def from_settings(cls, settings: Settings) -> "Layout":
        if settings.is_embedded:
            return cls()
        return cls(
            is_server=True,
            index=settings.milvus_index,
            vectors=settings.milvus_vectors,
            mmap=settings.milvus_mmap,
            shards=settings.milvus_shards,
            partitions=settings.milvus_partitions,
        )

    @property
    def vector_type(self) -> Any:
        """Return Milvus' type of a page's vector."""
        return VECTOR_TYPES[self.vectors]

    @property
    def index_options(self) -> dict[str, Any]:
        """Return the options of the index over pages' vectors."""
        kind, params = _INDEX_OPTIONS[self.index]
        return {"index_type": kind, "params": params} if params else {"index_type": kind}

    @property
    def options(self) -> dict[str, Any]:
        """Return the options of a collection of pages, beside its schema and its indexes."""
        options: dict[str, Any] = {"num_shards": self.shards} if self.is_server else {}
        options |= {"properties": {"mmap.enabled": "true"}} if self.mmap else {}
        return options | ({"num_partitions": self.partitions} if self.partitions else {})


LITE = Layout()
