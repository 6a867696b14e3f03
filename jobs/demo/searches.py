"""What the demo searches for: three queries on the made-up library, or on a folder of one's own."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cluster.core import Query
from cluster.errors import InvalidInput, NotFound
from cluster.pages.files import PageFiles
from cluster.settings import Settings
from cluster.store.milvus import open_store
from jobs.demo.library import DEMO_QUERIES, write_library, write_screenshot
from models.images import decode_image

QUERY_WORDS = 8
SCREENSHOT_SHARE = 0.6  # of width and height


@dataclass(frozen=True)
class DemoSearch:
    """One search of the demo."""

    title: str
    query: Query

    @classmethod
    def all_for(cls, settings: Settings, folder: Path, own: bool) -> "list[DemoSearch]":
        """Searches that suit the library; with `own` PDFs taken from one of their pages."""
        return _own_searches(settings) if own else _library_searches(folder)


def prepare(settings: Settings, pdfs: str) -> Path:
    """Return the folder to ingest: the given one, or the made-up library, written now."""
    if pdfs:
        if not Path(pdfs).is_dir():
            raise NotFound(f"there is no folder {pdfs}: name one that holds PDFs")
        return Path(pdfs)
    folder = settings.data_dir / "library"
    write_library(folder)
    return folder


def _library_searches(folder: Path) -> list[DemoSearch]:
    english, japanese = DEMO_QUERIES
    shot = folder.parent / "screenshot.png"
    wanted = write_screenshot(folder, shot)
    with Image.open(shot) as image:
        picture = image.convert("RGB")
    return [
        DemoSearch(f'quire search "{english.text}"', Query(text=english.text)),
        DemoSearch(f'quire search "{japanese.text}"', Query(text=japanese.text)),
        DemoSearch(
            f"quire search --image {shot.name}: part of {wanted.document}, page {wanted.page}",
            Query(image=picture),
        ),
    ]


def _own_searches(settings: Settings) -> list[DemoSearch]:
    """Words and a screenshot from one indexed page, to show that it is found again."""
    with open_store(settings) as store:
        documents = [each for each in store.documents(status="indexed") if each.pages]
        if not documents:
            raise InvalidInput("nothing in that folder could be indexed: see the table above")
        document = documents[0]
        page = 1 + document.pages // 2
        stored_page = store.page(document.tenant, document.doc_id, page)
    jpeg = PageFiles.from_settings(settings).get(document.tenant, document.doc_id, page)
    image = decode_image(jpeg, max_pixels=settings.max_image_pixels)
    name = f"{Path(document.source).name}, page {page}"
    words = " ".join(stored_page.text.split()[:QUERY_WORDS]) if stored_page else ""
    searches = [DemoSearch(f"part of {name}, as a screenshot", Query(image=_crop(image)))]
    if words:
        searches.insert(0, DemoSearch(f'quire search "{words}" (from {name})', Query(text=words)))
    return searches


def _crop(image: Image.Image) -> Image.Image:
    width, height = (np.array(image.size) * SCREENSHOT_SHARE).astype(int)
    return image.crop((0, 0, int(width), int(height)))
