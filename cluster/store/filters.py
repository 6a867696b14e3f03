"""Filters → Milvus expressions, built from digests, numbers and dates only.

No value of a caller reaches an expression as a string: tenant, tags, texts of metadata and sources
are stored as labels (hex digests) beside their values, and filters ask for labels. Milvus Lite has
no filter templates, so this is what works the same on every server.
"""

from collections.abc import Iterable

from cluster.core import AllOf, Filter, MetadataIs, Scalar
from cluster.errors import InvalidInput
from cluster.ids import checked_doc_id, filter_label, tenant_digest
from cluster.store.conditions import (
    asks_cer,
    checked_metadata_key,
    checked_share,
    condition_expression,
    is_one_of,
    quoted,
    to_ms,
)

UNKNOWN_CER = -1.0
TENANT_KEY = "tenant_key"  # a tenant's digest, by which a server keeps the rows of tenants apart


def labels_of(
    tenant: str, tags: Iterable[str], metadata: dict[str, Scalar], source: str
) -> list[str]:
    """Return every label of a document."""
    return [
        filter_label("tenant", tenant),
        filter_label("source", source),
        *(filter_label("tag", tag) for tag in tags),
        *(filter_label("metadata", key, value) for key, value in metadata.items()),
    ]


def to_expression(wanted: Filter, *, by_tenant_key: bool = False) -> str:
    """Return the Milvus expression of a filter; "" where everything passes. Raises InvalidInput.

    `by_tenant_key`: rows have their tenant's key as a field, too.
    """
    labels, numbers, parts = [], [], []
    if wanted.tenant is not None and by_tenant_key:
        parts.append(f'{TENANT_KEY} == "{tenant_digest(wanted.tenant)}"')
    elif wanted.tenant is not None:
        labels.append(filter_label("tenant", wanted.tenant))
    labels += [filter_label("tag", tag) for tag in wanted.tags]
    for key, value in wanted.metadata.items():
        if isinstance(value, str | bool):
            labels.append(filter_label("metadata", checked_metadata_key(key), value))
        else:
            numbers.append(MetadataIs(key, value))
    if labels:
        parts.append(with_labels(labels))
    if numbers:
        parts.append(condition_expression(AllOf(tuple(numbers))))
    if wanted.doc_ids:
        parts.append(is_one_of("doc_id", map(checked_doc_id, wanted.doc_ids)))
    if wanted.after is not None:
        parts.append(f"time_ms >= {to_ms(wanted.after)}")
    if wanted.before is not None:
        parts.append(f"time_ms < {to_ms(wanted.before)}")
    if wanted.min_cer is not None or wanted.max_cer is not None:
        parts.append(f"expected_cer >= {checked_share(wanted.min_cer or 0.0)}")
    if wanted.max_cer is not None:
        parts.append(f"expected_cer <= {checked_share(wanted.max_cer)}")
    if wanted.condition is not None:
        # In parentheses of its own where it has an `or`: nothing in it widens what stands before.
        parts.append(condition_expression(wanted.condition))
    return " and ".join(parts)


def document_expression(wanted: Filter) -> str:
    """Return the same for documents, which have no expected CER. Raises InvalidInput."""
    if wanted.min_cer is not None or wanted.max_cer is not None or asks_cer(wanted.condition):
        raise InvalidInput("pages have an expected CER, documents have none: leave it out here")
    return to_expression(wanted)


def with_labels(labels: Iterable[str]) -> str:
    """Return the expression for rows that carry all of these labels."""
    return f"array_contains_all(labels, [{quoted(labels)}])"
