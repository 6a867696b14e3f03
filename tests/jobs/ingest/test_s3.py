"""An ingest of documents at S3 that keeps its page files there, from Ray's workers."""

from pathlib import Path

import pytest

from cluster.pages.files import IMAGE, WORDS, PageFiles
from cluster.settings import load_settings
from cluster.sources import open_url
from cluster.store.milvus import open_store
from tests.support.documents import ENGLISH, a_document
from tests.support.ray_process import RayProcess
from tests.support.s3 import S3Server


@pytest.mark.long
def test_documents_and_page_files_at_s3(
    ray_process: RayProcess, s3: S3Server, tmp_path: Path
) -> None:
    fs, root = open_url(s3.folder())
    for name in ("a", "b"):
        pdf = a_document(*(f"{ENGLISH} {name} {page}" for page in range(1, 5))).tobytes()
        fs.pipe_file(f"{root}/documents/{name}.pdf", pdf)
    url = f"s3://{root}"

    with s3.recorded() as recorded:
        report = ray_process.quire_json(
            "ingest", f"{url}/documents", "--ocr", "off",
            folder=tmp_path, QUIRE_PAGE_IMAGES=f"{url}/pages",
        )  # fmt: skip
    assert report["new_pages"] == 8 and report["failed_pages"] == 0
    page_names = {f"{page:06d}" for page in range(1, 5)}
    of_pages = [each for each in recorded.requests if each.name.partition(".")[0] in page_names]
    assert [each.method for each in of_pages if each.method != "GET"] == ["PUT"] * 16
    assert not any(each.method == "HEAD" for each in of_pages)
    lists = [each for each in recorded.requests if each.is_list]
    assert len(lists) < 8, "folders are not listed for each page"
    settings = load_settings(store=str(tmp_path / "quire-data"), page_images=f"{url}/pages")
    files = PageFiles.from_settings(settings)
    with open_store(settings) as store:
        documents = store.documents()
    assert {each.source for each in documents} == {f"{url}/documents/{name}.pdf" for name in "ab"}
    for document in documents:
        assert files.pages(document, IMAGE) == files.pages(document, WORDS) == {1, 2, 3, 4}
