"""One frozen Settings for every command: flag > QUIRE_* environment > plan > quire.yaml > default.

Defaults, help texts and limits are written here once; the command line is generated from them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from cluster.deployments import (
    ROUTER_SCALING,
    DeviceScaling,
    ModelScaling,
    Scaling,
    find_deployment,
)
from cluster.environment import LOOPBACK, read_variables
from cluster.errors import InvalidInput
from cluster.plan import load_plan

COLLECTION_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"
MIB = 2**20
GIB = 2**30


def _scaling(deployment: str) -> Any:
    """Return the default scaling of a deployment; the table has it."""
    return find_deployment(deployment).default


# Former names of settings, accepted in every source until 0.3 (CHANGELOG.md).
FORMER_NAMES = {
    "quality_read_cer": "quality_ocr_cer",
    "quality_by_hand_cer": "quality_manual_cer",
}


def with_names_of_today(values: dict[str, Any]) -> dict[str, Any]:
    """Settings by name, former names replaced by those of today; the latter win."""
    former = {FORMER_NAMES[name]: value for name, value in values.items() if name in FORMER_NAMES}
    return former | {name: value for name, value in values.items() if name not in FORMER_NAMES}


class Settings(BaseSettings):
    """Every setting of Quire."""

    model_config = SettingsConfigDict(
        env_prefix="QUIRE_",
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,  # one field leaves the others as they are
        frozen=True,
        extra="forbid",
    )

    plan: str = Field(
        "",
        description="A file made by `quire plan`; what it plans is set, where no flag and no "
        "environment variable says otherwise.",
    )

    # Where things are kept
    store: str = Field(
        "./quire-data", description="A folder (embedded Milvus Lite) or http(s)://host:19530."
    )
    store_user: str = Field("", description="User name for a remote Milvus.")
    store_token: SecretStr = Field(SecretStr(""), description="Password or token of that user.")
    collection: Annotated[str, Field(pattern=COLLECTION_PATTERN)] = Field(
        "quire", description="Name of the collection; one model's vectors each."
    )
    milvus_index: Literal["auto", "hnsw", "ivf_flat", "diskann", "flat"] = Field(
        "auto",
        description="Index over the vectors of collections that are made on a Milvus server; auto: "
        "its own choice.",
    )
    milvus_vectors: Literal["fp32", "fp16", "int8"] = Field(
        "fp32",
        description="Type of the vectors of collections that are made on a Milvus server; fp16 "
        "takes half the memory, int8 a quarter.",
    )
    milvus_mmap: bool = Field(
        False,
        description="Collections that are made on a Milvus server are mapped from disk and not "
        "held in memory.",
    )
    milvus_shards: int = Field(
        2, ge=1, le=64, description="Shards of collections that are made on a Milvus server."
    )
    milvus_partitions: int = Field(
        16,
        ge=0,
        le=1024,
        description="Partitions by tenant of collections that are made on a Milvus server: a "
        "tenant's search reads its own alone; 0: none.",
    )
    page_images: str = Field(
        "",
        description="Folder or s3:// URL of the kept page images; by default pages/ in the store "
        "folder (./quire-data/pages with a remote store).",
    )

    # The embedder
    model: str = Field("quire-tiny", description="A known model (`quire models`) or a folder.")
    precision: Literal["auto", "fp32", "bf16", "int8", "nf4"] = Field(
        "auto", description="auto: bf16 on a GPU, fp32 on a CPU. int8 and nf4 are for fit."
    )
    quantize_vision: bool = Field(
        False, description="Quantise the vision tower too (int8 and nf4); it is kept wide else."
    )
    pooling: Literal["last", "mean"] = Field("last", description="How token states are pooled.")
    dimensions: int = Field(
        0, ge=0, description="Truncate vectors to this many dimensions; 0 keeps them whole."
    )
    max_pixels: int = Field(
        0, ge=0, description="Pixel budget of a page for the model; 0 takes the model's own."
    )
    instruction: str = Field(
        "Represent the user's input.", description="Instruction given to the embedder."
    )
    batch_tokens: int = Field(
        16_384, ge=256, description="Budget of tokens (visual and text) in one batch."
    )

    # Ray and the ingest pipeline
    ray_address: str = Field("", description="Address of a Ray cluster; empty starts a local one.")
    workers: int = Field(
        0, ge=0, description="Embedding workers; 0: one a GPU, or one for a CPU machine."
    )
    gpus_per_worker: float = Field(
        1.0, gt=0, le=8, description="Share of a GPU for each embedding worker."
    )
    gpu_memory_fraction: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Share of a GPU's memory that an embedding worker may take; by default all "
        "of it.",
    )
    gpu_kind: str = Field(
        "",
        description="Embedding workers only on nodes of Ray whose label quire.dev/gpu is this; by "
        "default on any.",
    )
    render_workers: int = Field(0, ge=0, description="Rendering workers; 0: one a CPU core.")
    shard_pages: int = Field(8, ge=1, description="Pages in one unit of work.")
    keep_pixels: int = Field(
        MIB,
        ge=0,
        description="Pixel budget of the kept page image; 0 keeps what the model sees.",
    )
    ocr: Literal["auto", "on", "off"] = Field(
        "auto", description="OCR for pages without text; auto: on where Tesseract is installed."
    )
    ocr_languages: str = Field("eng+jpn+kor", description="Tesseract languages, joined by +.")
    chunk_chars: int = Field(1200, ge=100, description="Characters in a chunk of page text.")
    chunk_overlap: int = Field(200, ge=0, description="Characters shared by neighbouring chunks.")
    chunk_vectors: Literal["on", "off"] = Field(
        "on",
        description="Vectors of chunks in collections that are made; off: chunks are found by full "
        "text alone, and embedding, memory and disk are spared.",
    )
    replace_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of a new version's pages, those that are damaged in themselves left "
        "aside, that must be in the index before the version before it is forgotten.",
    )

    # Limits
    page_timeout_s: float = Field(25, gt=0, description="Seconds that one page may take.")
    document_timeout_s: float = Field(
        600, gt=0, description="Seconds that one shard of a document may take to render."
    )
    render_memory_bytes: int = Field(
        2 * GIB, ge=256 * MIB, description="Memory of the rendering subprocess."
    )
    max_document_bytes: int = Field(2 * GIB, gt=0, description="Largest document accepted.")
    max_document_pages: int = Field(50_000, gt=0, description="Most pages in one document.")
    max_page_chunks: int = Field(64, gt=0, description="Most chunks of text in one page.")
    max_document_chunks: int = Field(
        200_000, gt=0, description="Most chunks of text in one document."
    )
    worker_timeout_s: float = Field(
        120,
        gt=0,
        description="Seconds that a worker of an ingest may take over one piece of work before it "
        "is replaced; a model may take five times as long to load.",
    )
    max_image_pixels: int = Field(
        100_000_000, gt=0, description="Most pixels in one image, checked before decoding."
    )

    # Search
    mode: Literal["hybrid", "dense", "text"] = Field("hybrid", description="How to search.")
    top_k: int = Field(10, ge=1, le=1000, description="How many pages to return.")
    fusion: Literal["rrf", "weights"] = Field(
        "rrf", description="How dense and text results are fused."
    )
    dense_weight: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Weight of the dense side in the fusion, text has the rest; by default the "
        "model's own, or 0.5 for a query with an image.",
    )

    sort: Literal["relevance", "easy-first", "hard-first"] = Field(
        "relevance",
        description="Order of the pages found; the others go by the errors OCR would make on them.",
    )

    # The reranker
    rerank: Literal["auto", "none", "cross-encoder", "late-interaction"] = Field(
        "auto",
        description="Let a second model order what was found: a reranker (cross-encoder), or "
        "late-interaction by MaxSim over kept multi-vectors; auto: the reranker where it is known "
        "to help.",
    )
    rerank_k: int = Field(
        20, ge=1, le=200, description="How many candidates the reranker is shown."
    )
    reranker: str = Field(
        "quire-tiny-reranker", description="A known reranker (`quire models`) or a folder."
    )
    rerank_precision: Literal["auto", "fp32", "bf16", "int8", "nf4"] = Field(
        "auto", description="Precision of the reranker."
    )
    rerank_instruction: str = Field(
        "Given a search query, retrieve relevant candidates that answer the query.",
        description="Instruction given to the reranker.",
    )
    rerank_batch_tokens: int = Field(
        16_384, ge=256, description="Budget of tokens in one batch of the reranker."
    )

    # Late interaction
    multi_vectors: Literal["off", "fp16", "int8", "binary"] = Field(
        "off",
        description="Keep multi-vectors of every page beside its image at ingest, in this "
        "precision, for rerank late-interaction and for evidence.",
    )
    late_interaction: str = Field(
        "quire-tiny-colqwen3",
        description="A known late-interaction model (`quire models`) or a folder.",
    )
    tiles: Literal[1, 4] = Field(
        1, description="4: a page's quarters get multi-vectors of their own, for small print."
    )
    token_pooling: int = Field(
        1, ge=1, le=8, description="Merge so many similar multi-vectors of a page into one."
    )
    late_interaction_batch_tokens: int = Field(
        4_096, ge=256, description="Budget of tokens in one batch of the late-interaction model."
    )

    # The OCR quality predictor
    quality: Literal["on", "off"] = Field(
        "off", description="Predict at ingest how well OCR would read each page."
    )
    quality_model: str = Field(
        "", description="Folder of an OCR quality predictor; empty takes the one that is shipped."
    )
    quality_ocr_cer: float = Field(
        0.2, ge=0, le=1, description="Pages of at most this expected CER are left to OCR (ocr)."
    )
    quality_manual_cer: float = Field(
        0.6,
        ge=0,
        le=1,
        description="Pages above this expected CER are for people to copy (manual); those between "
        "the two would gain by a better scan (rescan).",
    )

    # The online service
    host: str = Field("127.0.0.1", description="Address that `quire serve` listens on.")
    port: int = Field(8000, ge=1, le=65535, description="Port that `quire serve` listens on.")
    allow_anonymous: bool = Field(
        False, description="Serve an address other than loopback without keys."
    )
    api_key: SecretStr = Field(
        SecretStr(""), description="Key for the service that `quire search --url` asks."
    )
    keys_file: str = Field("", description="File of API keys; by default keys.json in the store.")
    shared_folder: str = Field(
        "",
        description="Folder that every machine of a cluster sees, for keys and jobs; by default "
        "the store folder (./quire-data with a remote store).",
    )
    uploads: str = Field(
        "",
        description="Folder or s3:// URL of uploaded documents; by default uploads/ in the store "
        "folder.",
    )
    request_timeout_s: float = Field(30, gt=0, description="Longest time for one request.")
    max_body_bytes: int = Field(
        64 * MIB, gt=0, description="Largest body of a request that is no upload of documents."
    )
    max_query_image_bytes: int = Field(
        32 * MIB, gt=0, description="Largest image file in a request."
    )
    max_query_image_pixels: int = Field(
        40_000_000, gt=0, description="Most pixels in one image of a request."
    )
    max_upload_bytes: int = Field(GIB, gt=0, description="Largest upload of documents at once.")
    store_timeout_s: float = Field(3, gt=0, description="Seconds that one call of Milvus may take.")
    otlp_endpoint: str = Field(
        "", description="OpenTelemetry collector (http://host:4318) that receives traces."
    )
    router: Scaling = Field(
        ROUTER_SCALING,
        description="Scaling of the router (router.max_replicas in quire.yaml, or "
        "QUIRE_ROUTER__MAX_REPLICAS).",
    )
    embedder_replicas: ModelScaling = Field(
        _scaling("embedder"), description="Scaling of the embedder."
    )
    reranker_replicas: ModelScaling = Field(
        _scaling("reranker"), description="Scaling of the reranker."
    )
    late_interaction_replicas: DeviceScaling = Field(
        _scaling("late_interaction"),
        description="Scaling of late interaction; starts with its first request by default.",
    )
    quality_replicas: DeviceScaling = Field(
        _scaling("quality"),
        description="Scaling of the quality predictor; starts with its first request by default.",
    )

    @model_validator(mode="after")
    def _overlap_is_smaller(self) -> "Settings":
        if self.chunk_overlap >= self.chunk_chars:
            raise ValueError("chunk_overlap must be smaller than chunk_chars")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        def source(values: dict[str, Any]) -> InitSettingsSource:
            return InitSettingsSource(settings_cls, with_names_of_today(values))

        file = source(YamlConfigSettingsSource(settings_cls, yaml_file="quire.yaml")())
        former = source(read_variables(f"QUIRE_{name.upper()}" for name in FORMER_NAMES))
        given = [each() for each in (init_settings, env_settings, file)]
        plan = next((values["plan"] for values in given if "plan" in values), "")
        planned = source(_planned(plan))
        return init_settings, env_settings, former, planned, file

    @property
    def is_embedded(self) -> bool:
        """True where the store is a folder and Milvus Lite serves it."""
        return not self.store.startswith(("http://", "https://"))

    @property
    def data_dir(self) -> Path:
        """Return the folder of everything that Quire keeps on this machine."""
        folder = self.store if self.is_embedded else self.shared_folder or "quire-data"
        return Path(folder).resolve()

    @property
    def uploads_url(self) -> str:
        return self.uploads or str(self.data_dir / "uploads")

    @property
    def keys_path(self) -> Path:
        return Path(self.keys_file or self.data_dir / "keys.json").resolve()

    @property
    def is_local(self) -> bool:
        """Served to this machine only, where whoever can connect can also read the files."""
        return self.host in LOOPBACK and not self.ray_address

    @property
    def page_images_url(self) -> str:
        return self.page_images or str(self.data_dir / "pages")

    def with_absolute_paths(self) -> "Settings":
        """Return these settings for a process in another working directory."""
        paths = {
            "page_images": _absolute(self.page_images_url),
            "uploads": _absolute(self.uploads_url),
            "keys_file": str(self.keys_path),
            "shared_folder": str(self.data_dir),
        }
        if self.is_embedded:
            paths["store"] = str(self.data_dir)
        if self.quality_model:
            paths["quality_model"] = str(Path(self.quality_model).resolve())
        return self.model_copy(update=paths)


def _absolute(path: str) -> str:
    """Return a path as an absolute one; a URL as it is."""
    return path if "://" in path else str(Path(path).resolve())


def load_settings(**flags: object) -> Settings:
    """Settings from flags (None means not given), environment, plan, quire.yaml and defaults.

    Raises InvalidInput that names each wrong setting.
    """
    try:
        given = {name: value for name, value in flags.items() if value is not None}
        return Settings(**with_names_of_today(given))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg']}"
            for item in error.errors()
        )
        raise InvalidInput(f"settings cannot be used: {problems}") from error


def _planned(plan: str) -> dict[str, Any]:
    """Read what the plan of this file sets; nothing for "". Raises InvalidInput."""
    if not plan:
        return {}
    planned = with_names_of_today(load_plan(Path(plan)).settings)
    if unknown := list(_unknown(Settings, planned)):
        raise InvalidInput(
            f"the plan {plan} sets what is no setting: {', '.join(unknown)}; make it again with "
            "`quire plan`"
        )
    return planned


def _unknown(model: Any, values: dict[str, Any]) -> Iterator[str]:
    """Names among values that a model does not have, those within its parts included."""
    for name, value in values.items():
        if name not in model.model_fields:
            yield name
        elif isinstance(value, dict):
            part = model.model_fields[name].annotation
            if hasattr(part, "model_fields"):
                yield from (f"{name}.{inner}" for inner in _unknown(part, value))
