"""The planner's formulas, each with its source: memory, arithmetic, waiting, storage.

Everything that is not derived from a model's configuration is a named constant here. What
`quire calibrate` measures takes the place of EFFICIENCY, SPEED and of the memory's formula.
"""

import math
from dataclasses import dataclass
from typing import get_args

from cluster.capacity.shapes import Matrices, ModelShape, Precision
from cluster.plan import ReplicaMemory
from cluster.settings import GIB, MIB

PRECISIONS = get_args(Precision)  # the widest first

# Memory.
NF4_BLOCK = 64  # weights that share an fp32 scale (QLoRA, arXiv:2305.14314)
NF4_CODE_BYTES = 16 * 4  # the code book of each matrix
CONTEXT_BYTES = int(0.75 * GIB)  # of CUDA and its kernels: 0.5 to 1 GiB by driver and card
CUBLAS_BYTES = 64 * MIB  # torch gives cuBLAS 32 MiB a handle on Hopper, 8 elsewhere
RESERVE = 0.10  # of the activations: what the caching allocator cannot use for its gaps
RESERVE_BYTES = 64 * MIB
# Models of colpali-engine run transformers' own forward. Followed tensor by tensor, ColPali's
# vision tower and ColQwen2's language model peak where these formulas say.
PLAIN_FORWARD = 1.2

# Speed.
EFFICIENCY = 0.40  # of the peak that a forward reaches in large batches, until it is calibrated
# Against bf16: LLM.int8() (arXiv:2208.07339, its appendix: slower on models below 13B); nf4
# computes in bf16 after its weights were made wide, once a batch.
SPEED = {"fp32": 1.0, "bf16": 1.0, "int8": 0.5, "nf4": 0.85}
SCALING = 0.97  # of each doubling of the GPUs of one ingest: shared store, stragglers
LAUNCH_S = 0.006  # of one small batch: kernels' launches, tokenising, the way through Ray Serve

# Tokens: around a page image (instruction, roles, markers), around a pair of query and page, of a
# query's words with its prompt, of a chunk of 1,200 characters.
PROMPT_TOKENS = 22
PAIR_TOKENS = 110
QUERY_TOKENS = 60
CHUNK_TOKENS = 320
TOKEN_CHARS = 4
START_H = 0.05  # a machine comes up, loads the model and warms up; it costs money
BUSY_MOST = 0.8  # share of its time that a replica may be busy at the planned load
EMBED_SHARES = (0.2, 0.45)  # of the time for a query, where the rest is for a second model
SEARCH_S = 0.035  # router and index (benchmarks/serving.py, benchmarks/store.py)

# A generator that answers from pages: what one answer reads and writes, how many at once.
ANSWER_PAGES = 4
ANSWER_TOKENS = 256
ANSWERS_AT_ONCE = 8

# CPU seconds of a page (ingest reports of real manuals: 10 to 26 ms to render, Ray's share beside).
RENDER_CPU_S = 0.04
OCR_CPU_S = 2.3  # Tesseract at 150 dpi
QUALITY_CPU_S = 0.5  # the quality predictor that ships, on one core

# Storage. Images of 1 MP as JPEG, words with their boxes: means over real manuals.
IMAGE_BYTES = 110_000
WORDS_BYTES = 5_000
TEXT_BYTES = 1_600  # of a row: its text, names, dates, tags
SPARSE_BYTES = 1_200  # of a row: some 150 terms of 8 bytes
GRAPH_BYTES = 2 * 18 * 4  # of a row: HNSW's links with M = 18, Milvus' own default (AUTOINDEX)
MMAP_RESIDENT = 0.25  # of what is mapped; a guess: searches go on while hot pages fit
INDEX_HEADROOM = 1.3  # growing segments and the copy that compaction makes
DISK_COPIES = 2.0  # binlogs and index files of the same rows
COMPONENT_BYTES = {"fp32": 4, "fp16": 2, "int8": 1}  # of a component of a vector in Milvus
STORED_BYTES = {"fp16": 2.0, "int8": 1.0, "binary": 0.125}  # of a component of a multi-vector


def weight_bytes(
    shape: ModelShape, precision: str, *, wide_bytes: int = 2, quantize_vision: bool = False
) -> int:
    """Bytes of a model's weights on its device.

    int8 holds an fp32 scale for each row, nf4 one for 64 weights, without double quantisation.
    `wide_bytes`: of a weight that is not quantised (bitsandbytes leaves embeddings, norms and
    biases, and Quire by default the vision tower). fp32 and bf16 have their own.
    """
    wide = {"fp32": 4, "bf16": 2}.get(precision, wide_bytes)
    total = shape.parameters.total * wide
    if precision in ("fp32", "bf16"):
        return total
    matrices = [*shape.linear_layers, *(shape.vision_matrices if quantize_vision else [])]
    return total + sum(_quantized_bytes(each, precision) - each.weights * wide for each in matrices)


def _quantized_bytes(matrices: Matrices, precision: str) -> int:
    one = matrices.rows * matrices.columns
    if precision == "int8":
        return matrices.count * (one + 4 * matrices.rows)
    return matrices.count * (one // 2 + 4 * math.ceil(one / NF4_BLOCK) + NF4_CODE_BYTES)


def vision_bytes(shape: ModelShape, patches: int, tokens: int, *, item_bytes: int = 2) -> int:
    """Peak of the vision tower over a packed batch, in bytes.

    Of models/qwen3_vl/forward.py, per patch: block input, its norm, queries, keys and values (2 + 2
    + 6 bytes of each of `width` in bf16), rotated queries (2), and the keys' rotation in float32 (3
    states of 4); or in the MLP block input, its sum with the attention, norm (6) and the inner
    states before and after GELU (4 of each of `mlp`). Beside them cosines and sines, what deepstack
    has taken so far, and the embedded tokens.
    """
    vision, text = shape.vision, shape.text
    attention = (6 * item_bytes + 12) * vision.width
    mlp = 3 * item_bytes * vision.width + 2 * item_bytes * vision.mlp
    rotary = 2 * 4 * vision.width // vision.heads
    merged = vision.levels * item_bytes * text.width // vision.merge**2
    return patches * (max(attention, mlp) + rotary + merged) + tokens * item_bytes * text.width


def language_bytes(shape: ModelShape, visual: int, tokens: int, *, item_bytes: int = 2) -> int:
    """Peak of the language model over a packed batch without KV cache, in bytes.

    Of models/qwen3_vl/forward.py, per token: layer input, its sum with the attention, norm (3 of
    `width`), and gate, value and their product in the MLP (3 of `mlp`); cosines and sines; per
    visual token the merged states and deepstack's.
    """
    vision, text = shape.vision, shape.text
    layer = item_bytes * (3 * text.width + 3 * text.mlp + 2 * text.head_dim)
    return tokens * layer + visual * item_bytes * text.width * (vision.levels + 1)


def replica_memory(
    shape: ModelShape, precision: str, batch_tokens: int, *, cached_tokens: int = 0
) -> ReplicaMemory:
    """GPU memory of one replica; its batches are all page images, the worst of a budget.

    `cached_tokens`: those whose keys and values a generator keeps; it also has a head.
    """
    item_bytes = 4 if precision == "fp32" else 2
    plain = 1.0 if shape.family == "qwen3_vl" and not shape.projection else PLAIN_FORWARD
    patches = batch_tokens * shape.vision.merge**2
    vision = int(plain * vision_bytes(shape, patches, batch_tokens, item_bytes=item_bytes))
    language = int(plain * language_bytes(shape, batch_tokens, batch_tokens, item_bytes=item_bytes))
    workspace = CUBLAS_BYTES + quantisation_bytes(shape, precision, batch_tokens)
    reserve = RESERVE_BYTES + int(RESERVE * max(vision, language))
    weights = weight_bytes(shape, precision)
    if cached_tokens:
        weights += item_bytes * shape.head_parameters
    cache = cached_tokens * kv_bytes(shape, item_bytes)
    return ReplicaMemory(weights, CONTEXT_BYTES, vision, language, workspace, reserve, cache)


def kv_bytes(shape: ModelShape, item_bytes: int = 2) -> int:
    """Keys and values of one token in every layer: 112 KiB in the 2B, 144 in the 8B."""
    text = shape.text
    return 2 * text.layers * text.kv_heads * text.head_dim * item_bytes


def quantisation_bytes(shape: ModelShape, precision: str, batch_tokens: int) -> int:
    """Return what bitsandbytes holds in mid-forward: int8's int32 products, nf4's wide matrix."""
    if precision == "int8":
        return 4 * shape.text.mlp * batch_tokens
    if precision == "nf4":
        return 2 * max(each.rows * each.columns for each in shape.linear_layers)
    return 0


def vision_flops(shape: ModelShape, patches: int) -> float:
    """Operations for one image; a multiply-add is two.

    Matrices 2·P·(4h² + 2hI)·depth, attention 4·P²·h·depth, patches, mergers over P / merge².
    """
    vision = shape.vision
    linear = 2 * patches * shape.block_matrices
    attention = 4 * patches**2 * vision.width * vision.depth
    # A still is the same frame twice: the slices of the patch embedding are summed once for all.
    embedding = 2 * patches * vision.width * shape.patch_values // vision.frames
    inner = vision.width * vision.merge**2
    merger = inner**2 + inner * shape.text.width if vision.merge > 1 else inner * shape.text.width
    mergers = 2 * (patches // vision.merge**2) * merger * (1 + vision.levels)
    return float(linear + attention + embedding + mergers)


def language_flops(shape: ModelShape, tokens: int) -> float:
    """Operations for one input: matrices 2·S·W, causal attention 2·S²·heads·d·layers."""
    text = shape.text
    attention = 2 * tokens**2 * text.heads * text.head_dim * text.layers
    return float(2 * tokens * shape.linear_weights + attention)


def page_flops(shape: ModelShape, pixels: int, prompt_tokens: int) -> float:
    """Operations for one page image within a prompt of so many other tokens."""
    patches = pixels // shape.vision.patch_px**2
    visual = patches // shape.vision.merge**2
    return vision_flops(shape, patches) + language_flops(shape, visual + prompt_tokens)


@dataclass(frozen=True)
class Queue:
    """`servers` alike, `service_s` of each request, `per_s` requests arriving at random."""

    servers: int
    service_s: float
    per_s: float

    @property
    def busy(self) -> float:
        """Share of the time that a server works."""
        return self.per_s * self.service_s / self.servers

    def wait_quantile_s(self, share: float) -> float:
        """The wait that so large a share of the requests does not exceed; infinite when overfull.

        Exponential tail of M/M/c (Erlang C), halved for service times that vary little: the
        approximation of Allen and Cunneen, (ca² + cs²) / 2 with ca² = 1 and cs² = 0.
        """
        if self.busy >= 1:
            return math.inf
        waits = self._erlang_c()
        if waits <= 1 - share:
            return 0.0
        rate = (1 - self.busy) * self.servers / self.service_s
        return math.log(waits / (1 - share)) / rate / 2

    def _erlang_c(self) -> float:
        """Return the share of requests that wait at all, by the recursion of Erlang B."""
        load = self.per_s * self.service_s
        blocked = 1.0
        for servers in range(1, self.servers + 1):
            blocked = load * blocked / (servers + load * blocked)
        return blocked / (1 - self.busy * (1 - blocked))


def page_cpu_s(scanned: float, quality: bool) -> float:
    """CPU seconds of one page: rendering, OCR of the share that is scanned, expected quality."""
    return RENDER_CPU_S + scanned * OCR_CPU_S + quality * QUALITY_CPU_S


def vector_bytes(rows: int, dimension: int, vectors: str) -> int:
    """Bytes of so many vectors of a type that Milvus stores."""
    return rows * dimension * COMPONENT_BYTES[vectors]


def milvus_bytes(
    rows: int, vectors: int, dimension: int, kind: str, *, mmap: bool = False
) -> tuple[int, int]:
    """Memory and disk of so many rows with BM25 and vectors of a kind with HNSW in Milvus.

    With `mmap` a share of them, MMAP_RESIDENT, is in memory.
    """
    held = rows * (TEXT_BYTES + SPARSE_BYTES)
    held += vector_bytes(vectors, dimension, kind) + vectors * GRAPH_BYTES
    resident = held * (MMAP_RESIDENT if mmap else 1.0)
    return int(resident * INDEX_HEADROOM), int(held * DISK_COPIES)


def page_file_bytes(vectors: int, dimension: int, stored: str) -> int:
    """Return bytes kept of a page: image, words, and multi-vectors unless `stored` is off."""
    vector_bytes = 0.0 if stored == "off" else vectors * dimension * STORED_BYTES[stored]
    return IMAGE_BYTES + WORDS_BYTES + int(vector_bytes)
