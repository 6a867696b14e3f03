"""Bodies of requests and responses of Quire's own routes."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

from pydantic import BaseModel, ConfigDict, Field

from cluster.core import Condition, Document, DocumentStatus, Filter, Hit, Page, Scalar, Verdict
from cluster.settings import Settings
from jobs.journal import JobKind
from jobs.journal import Status as JobStatus
from models.evidence.regions import Evidence, Method, Region
from models.ocr_quality.predictor import QualityPrediction, verdict
from models.registry import Kind

RETRY_S = "2"  # when to ask again a service that is not ready
MAX_TEXT_CHARS = 32_768
MAX_URL_CHARS = 800  # up to 12 bytes each in a URL; HAProxy refuses heads of requests over 15 KiB
FILTER_HELP = 'Conditions in the language of filters, e.g. {"year": {"gte": 2020}}.'
MAX_PAGES = 1000
MAX_CANDIDATES = 200
Tenant = Annotated[str, Field(max_length=256)]
Tag = Annotated[str, Field(min_length=1, max_length=256)]
Share = Annotated[float, Field(ge=0, le=1)]
DocId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class Body(BaseModel):
    """A request's body: a field that is not known is an error, never dropped."""

    model_config = ConfigDict(extra="forbid")


class Filters(Body):
    """Which pages a search may see; all conditions must hold."""

    tenant: Tenant | None = None
    tags: list[Tag] = Field([], max_length=64)
    doc_ids: list[DocId] = Field([], max_length=1000)
    metadata: dict[str, Scalar] = Field({}, max_length=64)
    after: datetime | None = Field(None, description="Ingested at or after.")
    before: datetime | None = Field(None, description="Ingested before.")
    min_cer: Share | None = Field(None, description="Least expected CER of a page, 0 to 1.")
    max_cer: Share | None = Field(None, description="Most; pages without one pass neither.")

    def to_filter(self, tenant: str | None, condition: Condition | None) -> Filter:
        return Filter(
            tenant=tenant,
            tags=tuple(self.tags),
            doc_ids=tuple(self.doc_ids),
            metadata=self.metadata,
            after=self.after,
            before=self.before,
            min_cer=self.min_cer,
            max_cer=self.max_cer,
            condition=condition,
        )


class SearchRequest(Body):
    """A search by text, by screenshot, or by both. What is left out is the service's default."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"text": "cracked seat tube", "top_k": 5},
                {"text": "焙煎中に火が出たとき", "mode": "hybrid", "rerank": "cross-encoder"},
                {"text": "invoice", "filter": {"tag": "paid", "year": {"gte": 2020}}},
            ]
        },
    )

    text: str = Field("", max_length=MAX_TEXT_CHARS)
    image: str | None = Field(None, description="A data URL or base64 of PNG, JPEG, WebP or TIFF.")
    filters: Filters = Filters()
    filter: dict[str, Any] = Field({}, description=f"{FILTER_HELP} Holds as well as `filters`.")
    mode: Literal["hybrid", "dense", "text"] | None = None
    rerank: Literal["auto", "none", "cross-encoder", "late-interaction"] | None = None
    top_k: int | None = Field(None, ge=1, le=MAX_PAGES)
    rerank_k: int | None = Field(None, ge=1, le=MAX_CANDIDATES)
    sort: Literal["relevance", "easy-first", "hard-first"] | None = None

    def choices(self) -> dict[str, Any]:
        """Return the settings that this request chooses for itself."""
        names = ("mode", "rerank", "top_k", "rerank_k", "sort")
        chosen = {name: getattr(self, name) for name in names}
        return {name: value for name, value in chosen.items() if value is not None}


class Scores(BaseModel):
    """Every score that led to a hit; higher is better in each."""

    dense: float | None
    text: float | None
    fused: float | None
    rerank: float | None
    maxsim: float | None


class HitBody(BaseModel):
    rank: int
    page_id: str
    doc_id: str
    page: int
    title: str
    source: str
    tenant: str
    tags: list[str]
    metadata: dict[str, Scalar]
    scores: Scores
    expected_cer: float | None = Field(description="Errors that OCR would make, 0 to 1.")
    verdict: Verdict | None
    snippet: str
    matches: list[tuple[int, int]] = Field(description="Character ranges within the snippet.")
    image_url: str

    @classmethod
    def of(
        cls,
        rank: int,
        hit: Hit,
        snippet: str,
        matches: list[tuple[int, int]],
        settings: Settings,
    ) -> "HitBody":
        return cls(
            rank=rank,
            page_id=hit.page_id,
            doc_id=hit.doc_id,
            page=hit.page,
            title=hit.title,
            source=file_name(hit.source),
            tenant=hit.tenant,
            tags=list(hit.tags),
            metadata=hit.metadata,
            scores=Scores(
                dense=hit.dense,
                text=hit.text_score,
                fused=hit.fused,
                rerank=hit.rerank,
                maxsim=hit.maxsim,
            ),
            expected_cer=hit.expected_cer,
            verdict=_verdict(hit.expected_cer, settings),
            snippet=snippet,
            matches=matches,
            image_url=image_url(hit.page_id, hit.tenant, settings.collection),
        )


class SearchResponse(BaseModel):
    request_id: str
    mode: str
    rerank: str
    hits: list[HitBody]
    took_ms: dict[str, float]


class PageBody(BaseModel):
    page_id: str
    doc_id: str
    page: int
    pages: int
    title: str
    source: str
    tenant: str
    tags: list[str]
    metadata: dict[str, Scalar]
    text: str
    matches: list[tuple[int, int]] = Field(description="Character ranges within the text.")
    width_px: int
    height_px: int
    expected_cer: float | None
    verdict: Verdict | None
    image_url: str
    previous: str | None
    next: str | None

    @classmethod
    def of(
        cls, page: Page, pages: int, matches: list[tuple[int, int]], settings: Settings
    ) -> "PageBody":
        def neighbour(number: int) -> str | None:
            return f"{page.doc_id}:{number}" if 1 <= number <= pages else None

        page_id = f"{page.doc_id}:{page.page}"
        return cls(
            page_id=page_id,
            doc_id=page.doc_id,
            page=page.page,
            pages=pages,
            title=page.title,
            source=file_name(page.source),
            tenant=page.tenant,
            tags=list(page.tags),
            metadata=page.metadata,
            text=page.text,
            matches=matches,
            width_px=page.width_px,
            height_px=page.height_px,
            expected_cer=page.expected_cer,
            verdict=_verdict(page.expected_cer, settings),
            image_url=image_url(page_id, page.tenant, settings.collection),
            previous=neighbour(page.page - 1),
            next=neighbour(page.page + 1),
        )


class RegionBody(BaseModel):
    box: tuple[float, float, float, float] = Field(
        description="Left, top, right, bottom, as shares of the page's width and height."
    )
    score: float = Field(description="0 to 1; for a token how far it stands out from the page.")
    text: str

    @classmethod
    def of(cls, region: Region) -> "RegionBody":
        return cls(box=region.box, score=round(region.score, 4), text=region.text)


class EvidenceBody(BaseModel):
    page_id: str
    query: str
    method: Method
    regions: list[RegionBody] = Field(description="Strongest first.")
    tokens: list[RegionBody] = Field(description="The best place of each token of the query.")
    heat: list[list[float]] | None = Field(description="Rows of cells over the page, 0 to 1.")

    @classmethod
    def of(cls, page_id: str, query: str, found: Evidence) -> "EvidenceBody":
        return cls(
            page_id=page_id,
            query=query,
            method=found.method,
            regions=[RegionBody.of(region) for region in found.regions],
            tokens=[RegionBody.of(token) for token in found.tokens],
            heat=None if found.heat is None else found.heat.round(3).tolist(),
        )


class PredictionBody(BaseModel):
    cer: float = Field(description="Expected character error rate, 0 to 1.")
    cer_low: float
    cer_high: float
    wer: float = Field(description="Expected word error rate, 0 to 1.")
    verdict: Verdict

    @classmethod
    def of(cls, found: QualityPrediction, settings: Settings) -> "PredictionBody":
        return cls(
            cer=round(found.cer, 4),
            cer_low=round(found.cer_low, 4),
            cer_high=round(found.cer_high, 4),
            wer=round(found.wer, 4),
            verdict=verdict(found.cer, settings),
        )


class QualityResponse(BaseModel):
    engine: str = Field(description="The OCR engine whose errors are predicted.")
    predictions: list[PredictionBody]


class PageQualityBody(BaseModel):
    page_id: str
    expected_cer: float | None = Field(description="As predicted at ingest, from the original.")
    verdict: Verdict | None
    regions: list[RegionBody] = Field(description="What makes the page hard, hardest first.")
    heat: list[list[float]]

    @classmethod
    def of(cls, page: Page, found: Evidence, settings: Settings) -> "PageQualityBody":
        return cls(
            page_id=f"{page.doc_id}:{page.page}",
            expected_cer=page.expected_cer,
            verdict=_verdict(page.expected_cer, settings),
            regions=[RegionBody.of(region) for region in found.regions],
            heat=[] if found.heat is None else found.heat.round(3).tolist(),
        )


class DocumentBody(BaseModel):
    doc_id: str
    title: str
    source: str
    pages: int
    status: DocumentStatus
    error: str
    tenant: str
    tags: list[str]
    metadata: dict[str, Scalar]
    ingested_at: datetime

    @classmethod
    def of(cls, document: Document) -> "DocumentBody":
        return cls(
            doc_id=document.doc_id,
            title=document.title,
            source=file_name(document.source),
            pages=document.pages,
            status=document.status,
            error=document.error,
            tenant=document.tenant,
            tags=list(document.tags),
            metadata=document.metadata,
            ingested_at=datetime.fromtimestamp(document.time_ms / 1000, UTC),
        )


class DocumentList(BaseModel):
    documents: list[DocumentBody]
    total: int


class RemovedBody(BaseModel):
    doc_id: str
    rows: int
    images: int


class DocumentChange(BaseModel):
    """What is to be known of a document from now on; what is not named stays."""

    model_config = ConfigDict(extra="forbid")

    title: Annotated[str, Field(max_length=1024)] | None = None
    tags: list[str] | None = None
    metadata: dict[str, Scalar] | None = None


class NamesakeBody(BaseModel):
    """A document that is in the index under the name of an uploaded file, with other bytes."""

    name: str
    doc_id: str


class JobAccepted(BaseModel):
    job_id: str
    status: JobStatus
    same_name: list[NamesakeBody] = Field(
        default=[],
        description="Documents of the same name that stay: upload with `replaces` to replace one.",
    )


class JobBody(BaseModel):
    job_id: str
    kind: JobKind
    status: JobStatus
    tenant: str
    files: list[str] = Field(description="Names of the files that it is about.")
    created_at: datetime
    error: str | None
    progress: dict[str, int]
    documents: list[dict[str, Any]]


class JobList(BaseModel):
    jobs: list[JobBody]
    total: int


class ModelBody(BaseModel):
    id: str
    object: Literal["model"] = "model"
    owned_by: str = "quire"
    created: int = 0
    kind: Kind
    dimension: int
    max_tokens: int
    served: bool


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelBody]


class Readiness(BaseModel):
    status: Literal["ready", "not ready"]
    checks: dict[str, str]


class Problem(BaseModel):
    type: str
    message: str
    param: str | None = None


class ErrorBody(BaseModel):
    """The one shape of every error."""

    error: Problem


def _verdict(cer: float | None, settings: Settings) -> Verdict | None:
    return None if cer is None else verdict(cer, settings)


def file_name(source: str) -> str:
    """Return the last part of a path or URL: where a file lies is nobody's business."""
    return source.rstrip("/").rpartition("/")[2]


def image_url(page_id: str, tenant: str, collection: str) -> str:
    asked = urlencode({"tenant": tenant, "collection": collection}, quote_via=quote)
    return f"/v1/pages/{page_id}/image?{asked}"
