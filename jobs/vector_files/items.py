"""Items: rows of a file that are documents of one page each, known by the file's name and an id."""

import time

from cluster.ids import doc_id_of, item_digest
from cluster.store.schema import PATH_BYTES, TITLE_BYTES, VARCHAR_BYTES
from cluster.text.terms import cut_utf8
from jobs.vector_files.row import RowFacts, parse_facts


def item_facts(name: str, source: str, item: str, text: str, number: int) -> RowFacts:
    """Return the facts of row `number` of the file `name`, which lies at `source`.

    Its own id becomes its title and `id` of its metadata. Raises InvalidInput that names the row.
    """
    digest = item_digest(name, item)
    return parse_facts(
        {
            "id": item,
            "doc_id": doc_id_of(digest),
            "sha256": digest,
            "page": 1,
            "title": cut_utf8(item, TITLE_BYTES),
            "source": cut_utf8(f"{source}#{item}", PATH_BYTES),
            "text": cut_utf8(text, VARCHAR_BYTES),
            "metadata": {"id": item},
            "time_ms": int(time.time() * 1000),
        },
        number,
    )
