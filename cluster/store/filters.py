"""Filters → Milvus expressions, built from digests and numbers only.

No string of a caller ever reaches an expression: tenant, tags, metadata and sources are stored as
labels (hex digests) beside their values, and filters ask for labels. Milvus Lite has no filter
templates, so this is what works the same on every server.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

from cluster.core import Filter, Scalar
from cluster.errors import InvalidInput
from cluster.ids import checked_doc_id, filter_label

UNKNOWN_CER = -1.0


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


def to_expression(wanted: Filter) -> str:
    """Return the Milvus expression of a filter; "" where everything passes. Raises InvalidInput."""
    labels = [] if wanted.tenant is None else [filter_label("tenant", wanted.tenant)]
    labels += [filter_label("tag", tag) for tag in wanted.tags]
    labels += [filter_label("metadata", key, value) for key, value in wanted.metadata.items()]
    parts = []
    if labels:
        parts.append(with_labels(labels))
    if wanted.doc_ids:
        quoted = ", ".join(f'"{checked_doc_id(doc_id)}"' for doc_id in wanted.doc_ids)
        parts.append(f"doc_id in [{quoted}]")
    if wanted.after is not None:
        parts.append(f"time_ms >= {to_ms(wanted.after)}")
    if wanted.before is not None:
        parts.append(f"time_ms < {to_ms(wanted.before)}")
    if wanted.min_cer is not None or wanted.max_cer is not None:
        parts.append(f"expected_cer >= {_share('min_cer', wanted.min_cer or 0.0)}")
    if wanted.max_cer is not None:
        parts.append(f"expected_cer <= {_share('max_cer', wanted.max_cer)}")
    return " and ".join(parts)


def _share(name: str, value: float) -> str:
    """Return a number from 0 to 1 as Milvus reads it. Raises InvalidInput."""
    if not 0 <= value <= 1:  # also what is not a number
        raise InvalidInput(f"{name} is a share from 0 to 1, not {value}")
    return f"{value:.6f}"


def with_labels(labels: Iterable[str]) -> str:
    """Return the expression for rows that carry all of these labels."""
    quoted = ", ".join(f'"{item}"' for item in labels)
    return f"array_contains_all(labels, [{quoted}])"


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970; a moment without a time zone is UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)
