"""What a real Milvus server takes for what Quire asks of one: levels of consistency, upserts.

    pip install milvus==2.3.5           # in an environment of its own: a server from the registry
    python -c "import time; from milvus import default_server as s; s.start(); time.sleep(1e6)"
    python -m benchmarks.milvus_server [--uri http://127.0.0.1:19530]

That server knows neither BM25 nor inverted indexes, so rows here have a key, a tenant as partition
key, labels and a vector of 2,048 dimensions. Measured: writing new rows by insert and by upsert;
queries by key at each level of consistency, while nothing is written and while another process
writes; whether a read sees what the same process, and another one, wrote just before; a tenant's
search with the tenant as partition key and without.
"""

import argparse
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import numpy as np
from pymilvus import DataType, MilvusClient
from rich.console import Console
from rich.table import Table

DIMENSION, TENANTS, ROWS, BATCH = 2048, 20, 4000, 250
LEVELS = ("Strong", "Session", "Bounded")
READS = 20
NAME = "quire_benchmark"
Row = dict[str, Any]


def create(client: MilvusClient, name: str, *, partitions: int) -> None:
    """Create a collection anew; without `partitions` the tenant is a field like others."""
    if name in client.list_collections():
        client.drop_collection(name)
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("row_id", DataType.VARCHAR, is_primary=True, max_length=96)
    schema.add_field("tenant_key", DataType.VARCHAR, max_length=12, is_partition_key=partitions > 0)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIMENSION)
    options = {"num_partitions": partitions} if partitions else {}
    client.create_collection(name, schema=schema, consistency_level="Strong", **options)
    index = MilvusClient.prepare_index_params()
    params = {"M": 16, "efConstruction": 200}
    index.add_index("vector", index_type="HNSW", metric_type="COSINE", params=params)
    client.create_index(name, index, sync=False)
    client.load_collection(name)


def rows(first: int, count: int, kind: str = "row") -> list[Row]:
    vectors = np.random.default_rng(first).standard_normal((count, DIMENSION)).astype(np.float32)
    return [
        {
            "row_id": f"{kind}:{first + number}",
            "tenant_key": f"t{(first + number) % TENANTS}",
            "vector": vector,
        }
        for number, vector in enumerate(vectors)
    ]


def write_rate(client: MilvusClient, write: str) -> float:
    """Return new rows a second by `insert` or `upsert`."""
    create(client, NAME, partitions=16)
    batches = [rows(first, BATCH) for first in range(0, ROWS, BATCH)]
    began = time.perf_counter()
    for batch in batches:
        getattr(client, write)(NAME, batch)
    return ROWS / (time.perf_counter() - began)


def query_ms(client: MilvusClient, level: str) -> float:
    """Return the median time of queries by key."""
    times = []
    for _ in range(READS):
        began = time.perf_counter()
        read(client, "row:1", level)
        times.append(time.perf_counter() - began)
    return median(times) * 1000


def read(client: MilvusClient, row_id: str, level: str) -> int:
    expression = f'row_id in ["{row_id}"]'
    fields = ["row_id"]
    return len(client.query(NAME, expression, output_fields=fields, consistency_level=level))


def search_ms(client: MilvusClient, name: str) -> float:
    """Return the median time of a tenant's searches."""
    times = []
    for row in rows(0, READS):
        began = time.perf_counter()
        client.search(
            name, [row["vector"]], filter='tenant_key == "t3"', consistency_level="Session"
        )
        times.append(time.perf_counter() - began)
    return median(times) * 1000


class Writer:
    """Another process that writes: all the time, or one row when told."""

    def __init__(self, uri: str) -> None:
        self._ours, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_serve, args=(uri, theirs), daemon=True)
        self._process.start()

    def write(self, row_id: str) -> None:
        self._ours.send(row_id)
        self._ours.recv()

    def close(self) -> None:
        self._process.terminate()
        self._process.join()


def _serve(uri: str, told: Any) -> None:
    client = MilvusClient(uri=uri)
    while True:
        row = rows(0, 1)[0] | {"row_id": told.recv()}
        client.upsert(NAME, [row])
        told.send(True)


def _write_on(uri: str) -> None:
    client, first = MilvusClient(uri=uri), 10 * ROWS
    while True:
        client.upsert(NAME, rows(first, 100))
        first += 100


@contextmanager
def written_to(uri: str) -> Iterator[None]:
    """Have another process write meanwhile."""
    process = multiprocessing.get_context("spawn").Process(target=_write_on, args=(uri,))
    process.start()
    time.sleep(5)
    try:
        yield
    finally:
        process.terminate()
        process.join()


def consistency_table(client: MilvusClient, uri: str) -> Table:
    table = Table(title="Reads by key")
    for column in ("level", "quiet", "while written to", "sees its own", "sees another's"):
        table.add_column(column, justify="left" if column == "level" else "right")
    quiet = {level: query_ms(client, level) for level in LEVELS}
    with written_to(uri):
        busy = {level: query_ms(client, level) for level in LEVELS}
    for level in LEVELS:
        seen = _seen(client, uri, level)
        times = (f"{quiet[level]:.0f} ms", f"{busy[level]:.0f} ms")
        table.add_row(level, *times, *(f"{count} of {READS}" for count in seen))
    return table


def _seen(client: MilvusClient, uri: str, level: str) -> tuple[int, int]:
    """Count the reads that saw a row written just before by this process, and by another."""
    writer, own, others = Writer(uri), 0, 0
    for number in range(READS):
        row_id = f"own-{level}:{number}"
        client.upsert(NAME, [rows(0, 1)[0] | {"row_id": row_id}])
        own += read(client, row_id, level)
    time.sleep(1)
    for number in range(READS):
        writer.write(row_id := f"other-{level}:{number}")
        others += read(client, row_id, level)
    writer.close()
    return own, others


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--uri", default="http://127.0.0.1:19530")
    args = parser.parse_args()
    client = MilvusClient(uri=args.uri)
    rates = {write: write_rate(client, write) for write in ("insert", "upsert")}
    lines = [f"{write}: {rate:,.0f} new rows/s" for write, rate in rates.items()]
    console = Console()
    console.print(consistency_table(client, args.uri))
    for partitions in (0, 16):
        create(client, NAME, partitions=partitions)
        for first in range(0, ROWS, BATCH):
            client.insert(NAME, rows(first, BATCH))
        client.query(NAME, "", output_fields=["count(*)"], consistency_level="Strong")
        name = "tenant as partition key" if partitions else "no partitions"
        lines.append(f"a tenant's search, {name}: {search_ms(client, NAME):.1f} ms")
    console.print("\n".join(lines))
    client.drop_collection(NAME)


if __name__ == "__main__":
    main()
