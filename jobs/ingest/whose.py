"""What an ingest says of a document that is not its own any more."""

from cluster.store.deletion import Owner

WHOSE: dict[Owner, tuple[str, str]] = {
    "gone": ("deleted", "it was deleted while it was ingested"),
    "another": ("taken_over", "another ingest has taken it over"),
}
