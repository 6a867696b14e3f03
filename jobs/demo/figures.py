"""Charts and diagrams of the demo library, as shapes and labels on a rectangle of the page."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pymupdf

Colour = tuple[float, float, float]
Point = tuple[float, float]

INK: Colour = (0.15, 0.2, 0.25)
GRID: Colour = (0.82, 0.85, 0.88)
PALE: Colour = (0.92, 0.95, 0.97)
COLOURS: tuple[Colour, ...] = (
    (0.13, 0.40, 0.62),
    (0.90, 0.49, 0.13),
    (0.33, 0.60, 0.33),
    (0.72, 0.25, 0.30),
    (0.48, 0.40, 0.66),
    (0.55, 0.55, 0.55),
)
TITLE_PT = 18.0
FLOW_GAP = 22.0


@dataclass(frozen=True)
class Label:
    """A line of text, centred on `x` or starting there, with its middle at `y`."""

    x: float
    y: float
    text: str
    size_pt: float = 9.0
    centred: bool = True
    bold: bool = False


@dataclass(frozen=True)
class Shape:
    """A line through points or, with a fill and no width, an area between them."""

    points: list[Point]
    colour: Colour
    width: float = 0.0


@dataclass
class Figure:
    """What is drawn, in this order, and what is written on top of it."""

    shapes: list[Shape] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)

    def box(self, x: float, y: float, width: float, height: float, fill: Colour = PALE) -> None:
        corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
        self.fill(corners, fill)
        self.line(*corners, corners[0], width=0.7)

    def line(self, *points: Point, colour: Colour = INK, width: float = 0.8) -> None:
        self.shapes.append(Shape(list(points), colour, width))

    def fill(self, points: list[Point], colour: Colour) -> None:
        self.shapes.append(Shape(points, colour))

    def arrow(self, start: Point, end: Point) -> None:
        self.line(start, end, width=1.2)
        angle = math.atan2(end[1] - start[1], end[0] - start[0])
        barbs = [
            (end[0] - 6 * math.cos(angle + turn), end[1] - 6 * math.sin(angle + turn))
            for turn in (0.45, -0.45)
        ]
        self.fill([end, *barbs], INK)

    def circle(self, x: float, y: float, radius: float, fill: Colour | None = None) -> None:
        ring = arc(x, y, radius, 0, 1)
        if fill:
            self.fill(ring, fill)
        self.line(*ring, ring[0])

    def write(self, x: float, y: float, text: str, size_pt: float = 9.0, **style: bool) -> None:
        self.labels.append(Label(x, y, text, size_pt, **style))

    def draw(self, page: pymupdf.Page) -> None:
        """Draw the shapes beneath what is already written on the page."""
        canvas = page.new_shape()
        for shape in self.shapes:
            canvas.draw_polyline(shape.points)
            if shape.width:
                canvas.finish(color=shape.colour, width=shape.width, closePath=False)
            else:
                canvas.finish(fill=shape.colour, color=None, closePath=True)
        canvas.commit(overlay=False)


def arc(x: float, y: float, radius: float, start: float, end: float) -> list[Point]:
    """Points of an arc; `start` and `end` are shares of a turn, clockwise from the top."""
    steps = max(2, round(48 * (end - start)))
    turns = (start + (end - start) * step / steps for step in range(steps + 1))
    return [
        (x + radius * math.sin(2 * math.pi * turn), y - radius * math.cos(2 * math.pi * turn))
        for turn in turns
    ]


def figure(kind: str, title: str, parts: list[str], area: pymupdf.Rect) -> Figure:
    """Draw a figure of the demo texts, `@kind title | part | part …`, into `area`."""
    drawn = Figure()
    drawn.write((area.x0 + area.x1) / 2, area.y0 + 8, title, 9.5, bold=True)
    inner = pymupdf.Rect(area.x0, area.y0 + TITLE_PT, area.x1, area.y1)
    KINDS[kind][1](drawn, parts, inner)
    return drawn


def height_of(kind: str) -> float:
    """Return the height that a figure takes, points."""
    return KINDS[kind][0]


def bars(drawn: Figure, parts: list[str], area: pymupdf.Rect) -> None:
    """`Jan 41 | Feb 38`: one bar each."""
    named = [(name, float(value)) for name, value in (part.rsplit(" ", 1) for part in parts)]
    plot = _axes(drawn, area, max(value for _, value in named), below=18)
    step = plot.width / len(named)
    for index, (name, value) in enumerate(named):
        x, top = plot.x0 + step * (index + 0.18), plot.y1 - plot.height * value / _top_of(named)
        drawn.box(x, top, step * 0.64, plot.y1 - top, COLOURS[0])
        drawn.write(x + step * 0.32, plot.y1 + 9, name)
        drawn.write(x + step * 0.32, top - 6, f"{value:g}", 7.5)


def lines(drawn: Figure, parts: list[str], area: pymupdf.Rect) -> None:
    """`2021 2022 | Fish: 3 4 | Timber: 5 2`: the first part is the x axis."""
    marks, *series = parts
    columns = marks.split()
    values = {name: [float(v) for v in row.split()] for name, row in _named(series)}
    most = max(max(row) for row in values.values())
    plot = _axes(drawn, area, most, below=34)
    step = plot.width / len(columns)
    for index, mark in enumerate(columns):
        drawn.write(plot.x0 + step * (index + 0.5), plot.y1 + 9, mark)
    for number, (name, row) in enumerate(values.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = [
            (plot.x0 + step * (index + 0.5), plot.y1 - plot.height * value / _round_up(most))
            for index, value in enumerate(row)
        ]
        drawn.line(*points, colour=colour, width=2)
        for x, y in points:
            drawn.fill(arc(x, y, 2.6, 0, 1), colour)
        x = plot.x0 + number * plot.width / len(values)
        drawn.line((x, area.y1 - 6), (x + 16, area.y1 - 6), colour=colour, width=2.5)
        drawn.write(x + 21, area.y1 - 6, name, centred=False)


def pie(drawn: Figure, parts: list[str], area: pymupdf.Rect) -> None:
    """`Fish 34 | Timber 22`: shares of the whole."""
    named = [(name, float(value)) for name, value in (part.rsplit(" ", 1) for part in parts)]
    whole = sum(value for _, value in named)
    radius = area.height / 2 - 8
    x, y, start = area.x0 + area.width * 0.32, (area.y0 + area.y1) / 2, 0.0
    for number, (name, value) in enumerate(named):
        colour = COLOURS[number % len(COLOURS)]
        end = start + value / whole
        slice_ = [(x, y), *arc(x, y, radius, start, end)]
        drawn.fill(slice_, colour)
        drawn.line(*slice_, slice_[0], colour=(1, 1, 1), width=1.2)
        start = end
        row = area.y0 + 16 + number * 17
        left = area.x0 + area.width * 0.62
        drawn.box(left, row - 5, 10, 10, colour)
        drawn.write(left + 17, row, f"{name}: {value:g} ({value / whole:.0%})", centred=False)


def circuit(drawn: Figure, parts: list[str], area: pymupdf.Rect) -> None:
    """`Pump | Tank | Radiator`: boxes in a row joined by arrows, and back again below."""
    flow(drawn, parts, area)
    half = (area.width - FLOW_GAP * (len(parts) - 1)) / len(parts) / 2
    first, last, low = area.x0 + half, area.x1 - half, area.y0 + 80
    drawn.line((last, area.y0 + 60), (last, low), (first, low), width=1.2)
    drawn.arrow((first, low), (first, area.y0 + 60))


def flow(drawn: Figure, parts: list[str], area: pymupdf.Rect) -> None:
    """`Mill | Press | Barn`: boxes in a row joined by arrows."""
    gap = FLOW_GAP
    width = (area.width - gap * (len(parts) - 1)) / len(parts)
    y = area.y0 + 14
    for index, name in enumerate(parts):
        x = area.x0 + index * (width + gap)
        drawn.box(x, y, width, 46)
        _in_lines(drawn, name, x + width / 2, y + 23)
        if index:
            drawn.arrow((x - gap, y + 23), (x, y + 23))


def tree(drawn: Figure, parts: list[str], area: pymupdf.Rect) -> None:
    """`Question | yes: do this | no: do that`: one box above, its branches below."""
    root, *branches = parts
    middle = (area.x0 + area.x1) / 2
    drawn.box(middle - 110, area.y0 + 6, 220, 34, (1, 0.95, 0.85))
    _in_lines(drawn, root, middle, area.y0 + 23)
    step = area.width / len(branches)
    for index, (answer, advice) in enumerate(_named(branches)):
        x = area.x0 + step * (index + 0.5)
        drawn.arrow((middle, area.y0 + 40), (x, area.y0 + 84))
        drawn.box(x - step * 0.45, area.y0 + 84, step * 0.9, 58)
        drawn.write(x, area.y0 + 95, answer, 8.5, bold=True)
        _in_lines(drawn, advice, x, area.y0 + 119)


def terminals(drawn: Figure, parts: list[str], area: pymupdf.Rect) -> None:
    """`1 L brown | 2 N blue`: a terminal strip with what is wired to each screw."""
    step = area.width / len(parts)
    drawn.box(area.x0, area.y0 + 58, area.width, 40, (0.85, 0.85, 0.8))
    for index, part in enumerate(parts):
        number, signal, wire = part.split(" ", 2)
        x = area.x0 + step * (index + 0.5)
        drawn.circle(x, area.y0 + 78, 9, (1, 1, 1))
        drawn.line((x - 6, area.y0 + 82), (x + 6, area.y0 + 74), width=1.4)
        drawn.write(x, area.y0 + 106, number, 8, bold=True)
        drawn.line((x, area.y0 + 30), (x, area.y0 + 69), colour=COLOURS[index % 6], width=2.2)
        drawn.write(x, area.y0 + 22, signal, 8.5, bold=True)
        drawn.write(x, area.y0 + 10, wire, 7.5)


def parts_drawing(drawn: Figure, parts: list[str], area: pymupdf.Rect) -> None:
    """`Fan guard | Fan | Coil`: a machine in section with numbered call-outs and their names."""
    body = pymupdf.Rect(area.x0 + 40, area.y0 + 10, area.x0 + 260, area.y1 - 10)
    drawn.box(body.x0, body.y0, body.width, body.height)
    x, y = body.x0 + 75, (body.y0 + body.y1) / 2
    for radius in (52, 44, 12):
        drawn.circle(x, y, radius, (1, 1, 1))
    for turn in range(5):
        drawn.line((x, y), arc(x, y, 44, turn / 5, turn / 5 + 0.1)[0], width=3)
    for row in range(9):
        level = body.y0 + 18 + row * (body.height - 36) / 8
        drawn.line((body.x0 + 150, level), (body.x0 + 205, level), width=1.6)
    drawn.line((body.x0 + 150, body.y0 + 18), (body.x0 + 150, body.y1 - 18), width=1.6)
    for index, name in enumerate(parts):
        level = area.y0 + 16 + index * (area.height - 24) / len(parts)
        target = (body.x0 + 40 + (index * 53) % 170, body.y0 + 20 + (index * 41) % 110)
        drawn.line((area.x0 + 300, level), target, width=0.5)
        drawn.circle(area.x0 + 308, level, 8, (1, 1, 1))
        drawn.write(area.x0 + 308, level, str(index + 1), 8, bold=True)
        drawn.write(area.x0 + 324, level, name, 8.5, centred=False)


def plan(drawn: Figure, parts: list[str], area: pymupdf.Rect) -> None:
    """`A 0 0 3 2 | B 3 0 2 2`: rooms of a floor plan on a grid (name x y width height)."""
    rooms = [_room(part) for part in parts]
    across = max(box.x1 for _, box in rooms)
    down = max(box.y1 for _, box in rooms)
    unit = min(area.width / across, (area.height - 6) / down)
    left, top = area.x0 + (area.width - unit * across) / 2, area.y0 + 4
    for number, (name, box) in enumerate(rooms):
        x, y = left + box.x0 * unit, top + box.y0 * unit
        width, height = box.width * unit, box.height * unit
        drawn.box(x, y, width, height, PALE if number % 2 else (1.0, 0.97, 0.9))
        _in_lines(drawn, name, x + width / 2, y + height / 2)


KINDS: dict[str, tuple[float, Callable[[Figure, list[str], pymupdf.Rect], None]]] = {
    "bars": (225, bars),
    "lines": (245, lines),
    "pie": (210, pie),
    "flow": (96, flow),
    "circuit": (116, circuit),
    "tree": (172, tree),
    "terminals": (148, terminals),
    "parts": (215, parts_drawing),
    "plan": (240, plan),
}


def _axes(drawn: Figure, area: pymupdf.Rect, most: float, *, below: float) -> pymupdf.Rect:
    """Draw axes with five grid lines from 0 to a round number; returns where the data goes."""
    plot = pymupdf.Rect(area.x0 + 38, area.y0 + 8, area.x1 - 4, area.y1 - below)
    top = _round_up(most)
    for step in range(5):
        y = plot.y1 - plot.height * step / 4
        drawn.line((plot.x0, y), (plot.x1, y), colour=INK if step == 0 else GRID)
        drawn.write(plot.x0 - 18, y, f"{top * step / 4:g}", 7.5)
    return plot


def _top_of(named: list[tuple[str, float]]) -> float:
    return _round_up(max(value for _, value in named))


def _round_up(most: float) -> float:
    unit = 10.0 ** math.floor(math.log10(most))
    steps = (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 5, 6, 8, 10)
    return next(unit * step for step in steps if unit * step >= most)


def _named(parts: list[str]) -> Iterator[tuple[str, str]]:
    for part in parts:
        name, _, rest = part.partition(":")
        yield name.strip(), rest.strip()


def _room(part: str) -> tuple[str, pymupdf.Rect]:
    name, *numbers = part.rsplit(" ", 4)
    x, y, width, height = map(float, numbers)
    return name, pymupdf.Rect(x, y, x + width, y + height)


def _in_lines(drawn: Figure, text: str, x: float, y: float) -> None:
    """Text around a middle, broken where it says `/`."""
    rows = [row.strip() for row in text.split("/")]
    for index, row in enumerate(rows):
        drawn.write(x, y + (index - (len(rows) - 1) / 2) * 11, row)
