"""Pages of the demo library: a small markup, laid out by MuPDF's Story.

The markup, one block a line: `# heading`, `## heading`, `- item`, `1. item`, `| cell | cell |`
(first row is the head), `! warning`, `= centred`, `> set to the right`, `^ small print`,
`~ filled in by hand`, `* * *` (a rule), `@figure title | …`, `[label] value` (a form field),
`_ 20` (empty space, points), `---` (new page). Anything else is a paragraph. Inside any of them
`**bold**`, and `\\` breaks a line. The first lines, `name: value`, describe the document.
"""

import html
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import pymupdf

from jobs.demo.figures import Figure, Label, figure, height_of

PAPERS = {"A4": (595.0, 842.0, 56.0), "Letter": (612.0, 792.0, 60.0), "receipt": (226.0, 0.0, 14.0)}
DATE = "D:20260105090000Z"  # fixed, so that the same text gives the same bytes
FIELD_HEIGHT = 32.0
LABEL_WIDTH = 440.0

CSS = """
body { margin: 0; font-family: sans-serif; font-size: 10pt; line-height: 1.42; color: #20262c; }
h1 { font-size: 1.9em; margin: 4pt 0 8pt 0; color: COLOUR; line-height: 1.2; }
h2 { font-size: 1.25em; margin: 9pt 0 3pt 0; color: COLOUR; }
p { margin: 0 0 6pt 0; } ul, ol { margin: 0 0 6pt 0; } li { margin: 0 0 2pt 0; }
table { border-collapse: collapse; width: 100%; margin: 4pt 0 9pt 0; }
td, th { border: 0.6pt solid #9aa4ad; padding: 2.5pt 5pt; text-align: left;
         font-size: 0.9em; line-height: 1.3; }
th { background-color: #e3eaf0; } td.number, th.number { text-align: right; }
.warning {
  background-color: #fff1d6; border: 1pt solid #d18f00; padding: 6pt; margin: 5pt 0 9pt 0;
}
.centred { text-align: center; } .right { text-align: right; } 
.small { font-size: 0.8em; color: #58626b; }
.hand { font-family: serif; font-style: italic; color: #1f3a93; font-size: 1.2em; }
.label { margin: 0; line-height: 1.2; } hr { margin: 4pt 0; }
"""
NUMBER = re.compile(r"^[−+-]?[$€£¥￥₩]?\s?[\d,.']+\s?(%|円|원|kr|h|kg|pcs)?$")
STYLES = {
    "# ": ("h1", ""),
    "## ": ("h2", ""),
    "! ": ("div", "warning"),
    "= ": ("p", "centred"),
    "> ": ("p", "right"),
    "^ ": ("p", "small"),
    "~ ": ("p", "hand"),
}


@dataclass(frozen=True)
class Layout:
    """What the head of a text says of the document."""

    title: str
    paper: str = "A4"
    colour: str = "#123a5e"
    footer: str = ""
    height: str = "842"  # of a receipt, points
    size: str = ""  # of the letters, points
    scan: str = ""  # "yes" for a document without a text layer


def parse(text: str) -> tuple[Layout, list[list[str]]]:
    """Return the head and the pages, each a list of lines."""
    head, _, body = text.partition("\n\n")
    layout = Layout(**dict(line.split(": ", 1) for line in head.splitlines()))
    return layout, [page.strip().splitlines() for page in re.split(r"^---$", body, flags=re.M)]


def lay_out(layout: Layout, pages: list[list[str]]) -> pymupdf.Document:
    """Return a PDF of the pages. Raises ValueError where one does not fit its paper."""
    output = io.BytesIO()
    writer = pymupdf.DocumentWriter(output)
    figures = [
        _write_page(writer, layout, lines, f"{number} / {len(pages)}")
        for number, lines in enumerate(pages, 1)
    ]
    writer.close()
    document = pymupdf.open(stream=output.getvalue(), filetype="pdf")
    for number, drawn in enumerate(figures):
        for one in drawn:
            one.draw(document[number])
    return document


def to_bytes(document: pymupdf.Document, title: str) -> bytes:
    """Return the PDF as bytes that depend on its content only."""
    document.subset_fonts()
    document.set_metadata(
        {"title": title, "author": "", "creationDate": DATE, "modDate": DATE, "producer": ""}
    )
    data: bytes = document.tobytes(garbage=3, deflate=True, no_new_id=True)
    return data


def _write_page(
    writer: pymupdf.DocumentWriter, layout: Layout, lines: list[str], number: str
) -> list[Figure]:
    width, height, margin = PAPERS[layout.paper]
    height = height or float(layout.height)
    device = writer.begin_page(pymupdf.Rect(0, 0, width, height))
    area = pymupdf.Rect(margin, margin, width - margin, height - margin)
    css = CSS.replace("COLOUR", layout.colour)
    css += f"body {{ font-size: {layout.size}pt; }}" if layout.size else ""
    figures: list[Figure] = []
    for is_drawn, block in groupby(lines, key=_is_drawn):
        if not is_drawn:
            area.y0 = _place(device, to_html(list(block)), css, area, layout.title)
            continue
        for line in block:
            one, taken = _drawn(line, area)
            if area.y0 + taken > area.y1:
                raise ValueError(f"{layout.title}, page {number}: no room for {line[:40]}")
            area.y0 += taken
            figures.append(one)
            for label in one.labels:
                _place_label(device, label, css)
    if layout.footer:
        foot = pymupdf.Rect(margin, height - margin + 8, width - margin, height - 4)
        _place(device, f'<p class="small">{layout.footer} · {number}</p>', css, foot, layout.title)
    writer.end_page()
    return figures


def _is_drawn(line: str) -> bool:
    return line.startswith(("@", "[", "_ "))


def _drawn(line: str, area: pymupdf.Rect) -> tuple[Figure, float]:
    """Draw a figure, a row of form fields or an empty space; returns its height too, in points."""
    if line.startswith("_ "):
        return Figure(), float(line[2:])
    if line.startswith("["):
        return _fields(line, area), FIELD_HEIGHT
    kind, _, rest = line[1:].partition(" ")
    title, *parts = (part.strip() for part in rest.split("|"))
    height = height_of(kind)
    space = pymupdf.Rect(area.x0, area.y0 + 4, area.x1, area.y0 + height - 4)
    return figure(kind, title, parts, space), height


def _fields(line: str, area: pymupdf.Rect) -> Figure:
    """`[label] value [label] value`: boxes side by side, each with a label in its corner."""
    pairs = re.findall(r"\[([^\]]+)\]([^\[]*)", line)
    drawn = Figure()
    width = area.width / len(pairs)
    for index, (label, value) in enumerate(pairs):
        x = area.x0 + index * width
        drawn.box(x, area.y0, width, FIELD_HEIGHT - 3, (0.975, 0.98, 0.985))
        drawn.write(x + 4, area.y0 + 6.5, label, 6.5, centred=False)
        drawn.write(x + 8, area.y0 + 19, value.strip(), 10, centred=False)
    return drawn


def _place(device: object, content: str, css: str, area: pymupdf.Rect, title: str) -> float:
    """Set a piece of HTML at the top of `area`; returns where the next may start."""
    story = pymupdf.Story(content, user_css=css)
    more, filled = story.place(area)
    if more:
        raise ValueError(f"{title}: the text does not fit its page: {content[:60]}…")
    story.draw(device)
    return float(filled[3])


def _place_label(device: object, label: Label, css: str) -> None:
    align = "center" if label.centred else "left"
    weight = "bold" if label.bold else "normal"
    style = f"text-align:{align}; font-size:{label.size_pt}pt; font-weight:{weight}"
    left = label.x - LABEL_WIDTH / 2 if label.centred else label.x
    top = label.y - label.size_pt * 0.62
    space = pymupdf.Rect(left, top, left + LABEL_WIDTH, top + label.size_pt * 3)
    story = pymupdf.Story(
        f'<p class="label" style="{style}">{html.escape(label.text)}</p>', user_css=css
    )
    story.place(space)
    story.draw(device)


def to_html(lines: list[str]) -> str:
    """Lines of the markup, without figures, as HTML."""
    return "".join(
        _group(kind, list(group)) for kind, group in groupby(lines, key=_kind_of) if kind != "empty"
    )


def _kind_of(line: str) -> str:
    if not line.strip():
        return "empty"
    if line.startswith("| "):
        return "table"
    if line.startswith("- "):
        return "ul"
    return "ol" if re.match(r"\d+\. ", line) else "block"


def _group(kind: str, lines: list[str]) -> str:
    if kind == "table":
        return f"<table>{''.join(_rows(lines))}</table>"
    if kind in ("ul", "ol"):
        items = (_inline(line.split(" ", 1)[1]) for line in lines)
        return f"<{kind}>{''.join(f'<li>{item}</li>' for item in items)}</{kind}>"
    return "".join(map(_block, lines))


def _rows(lines: list[str]) -> Iterator[str]:
    table = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    numeric = [
        all(NUMBER.match(row[i]) for row in table[1:] if row[i]) for i in range(len(table[0]))
    ]
    for index, row in enumerate(table):
        tag = "td" if index else "th"
        cells = (
            f'<{tag} class="{"number" if number else ""}">{_inline(cell)}</{tag}>'
            for cell, number in zip(row, numeric, strict=True)
        )
        yield f"<tr>{''.join(cells)}</tr>"


def _block(line: str) -> str:
    if line == "* * *":
        return "<hr/>"
    for mark, (tag, kind) in STYLES.items():
        if line.startswith(mark):
            return f'<{tag} class="{kind}">{_inline(line.removeprefix(mark))}</{tag}>'
    return f"<p>{_inline(line)}</p>"


def _inline(text: str) -> str:
    bold = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", html.escape(text, quote=False))
    return bold.replace("\\", "<br/>")
