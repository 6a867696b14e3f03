"""Documents that people have and that attackers send, generated."""

import io
from pathlib import Path

import numpy as np
import pymupdf
from PIL import Image

ENGLISH = "Invoice 4711 for three pallets of copper pipe"
JAPANESE = "請求書 第四七一一号 銅管三パレット 支払期限 六月三十日"


def a_document(
    *pages: str, width: float = 595, height: float = 842, font: str = "japan"
) -> pymupdf.Document:
    document = pymupdf.open()
    for text in pages:
        page = document.new_page(width=width, height=height)
        page.insert_text((36, 72), text, fontname=font, fontsize=10)
    return document


def save(document: pymupdf.Document, path: Path, **options: object) -> str:
    document.save(path, **options)
    return str(path)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def a_jpeg(width: int = 200, height: int = 300) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "white").save(file, "JPEG")
    return file.getvalue()


def a_bomb() -> bytes:
    """A PNG of 160 KB that decodes to 169 million pixels."""
    return png(Image.new("L", (13_000, 13_000)))


def laughs(path: Path, *, depth: int = 9) -> str:
    """A PDF of 2 KB whose page draws ten forms that draw ten forms that …: 10^depth paths."""
    document = pymupdf.open()
    document.new_page()
    form = "0 0 m 9 9 l S"
    inner = 0
    for _ in range(depth):
        outer = document.get_new_xref()
        resources = f"/Resources<</XObject<</F {inner} 0 R>>>>" if inner else ""
        document.update_object(outer, f"<</Type/XObject/Subtype/Form/BBox[0 0 99 99]{resources}>>")
        document.update_stream(outer, form.encode())
        inner, form = outer, "/F Do " * 10
    page = document[0]
    document.xref_set_key(page.xref, "Resources", f"<</XObject<</F {inner} 0 R>>>>")
    contents = document.get_new_xref()
    document.update_object(contents, "<<>>")
    document.update_stream(contents, form.encode())
    document.xref_set_key(page.xref, "Contents", f"{contents} 0 R")
    return save(document, path)


def make_encrypted(path: Path) -> None:
    save(
        a_document("x"),
        path,
        encryption=pymupdf.mupdf.PDF_ENCRYPT_AES_256,
        user_pw="u",
        owner_pw="o",
    )


def make_without_pages(path: Path) -> None:
    objects = [
        b"%PDF-1.4\n",
        b"1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n",
        b"2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\n",
    ]
    first, second, table = (len(b"".join(objects[:count])) for count in (1, 2, 3))
    path.write_bytes(
        b"".join(objects)
        + b"xref\n0 3\n0000000000 65535 f \n%010d 00000 n \n%010d 00000 n \n" % (first, second)
        + b"trailer<</Root 1 0 R/Size 3>>\nstartxref\n%d\n%%%%EOF\n" % table
    )


def make_truncated(path: Path) -> None:
    path.write_bytes(a_document(ENGLISH).tobytes()[:300])


def make_garbage(path: Path) -> None:
    path.write_bytes(b"%PDF-1.7\n" + np.random.default_rng(7).bytes(50_000))


def make_unknown(path: Path) -> None:
    path.write_bytes(np.random.default_rng(8).bytes(5_000))


def make_html(path: Path) -> None:
    path.write_text("<!DOCTYPE html><html><body><p>Please log in to download.</p></body></html>")


def make_svg(path: Path) -> None:
    path.write_text('<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>')


def make_png(path: Path) -> None:
    path.write_bytes(png(Image.new("RGB", (40, 40))))


def make_half_a_png(path: Path) -> None:
    whole = png(Image.fromarray(np.random.default_rng(7).integers(0, 255, (99, 99), np.uint8)))
    path.write_bytes(whole[:2000])


def make_pdf(path: Path) -> None:
    save(a_document("x"), path)


def make_narrow(path: Path) -> None:
    save(a_document("x", width=14_000, height=40), path)


def make_bomb(path: Path) -> None:
    path.write_bytes(a_bomb())


def make_pdf_with_bomb(path: Path) -> None:
    document = a_document(ENGLISH)
    document[0].insert_image(pymupdf.Rect(50, 200, 300, 400), stream=a_bomb())
    save(document, path)


def a_pdf_of_places(texts: dict[str, tuple[float, float]], *, size: float = 12) -> bytes:
    """A page with texts at places (of their first letter's foot), in shares of its sides."""
    document = pymupdf.open()
    page = document.new_page(width=595, height=842)
    for text, (left, top) in texts.items():
        font = "helv" if text.isascii() else "japan"
        page.insert_text((left * 595, top * 842), text, fontname=font, fontsize=size)
    data: bytes = document.tobytes()
    return data
