"""One plot as SVG: frame, axes, and how each row is drawn."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from backbench.leaderboard.views.page.markup import Html, el, join
from backbench.leaderboard.views.page.numbers import coordinate, tick_labels
from backbench.leaderboard.views.page.plots.scales import Scale

COLOURS = 8
DASHES = (None, "7 3", "2 2.5", "9 3 2 3")
# Corners around the origin, in units of the marker's size.
SHAPES: dict[str, tuple[tuple[float, float], ...]] = {
    "square": ((-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)),
    "up": ((0, -1.15), (1.1, 0.85), (-1.1, 0.85)),
    "diamond": ((0, -1.3), (1.15, 0), (0, 1.3), (-1.15, 0)),
    "down": ((0, 1.15), (1.1, -0.85), (-1.1, -0.85)),
    "bar": ((-0.5, -1.3), (0.5, -1.3), (0.5, 1.3), (-0.5, 1.3)),
}
MARKERS = ("circle", *SHAPES)


@dataclass(frozen=True)
class Style:
    """How every plot draws a row. Marker and dash identify it without the colour."""

    row: str
    label: str
    index: int

    @property
    def colour(self) -> str:
        return f"k{self.index % COLOURS}"

    @property
    def dash(self) -> str | None:
        return DASHES[self.index % len(DASHES)]

    def marker(self, x: float, y: float, title: str | None = None, size: float = 4.2) -> Html:
        """The row's marker at (x, y)."""
        kind = MARKERS[self.index % len(MARKERS)]
        attrs = {"class": f"mk {self.colour}", "data-row": self.row}
        inside = el("title", None, title) if title else None
        if kind == "circle":
            return el("circle", {**attrs, "cx": coordinate(x), "cy": coordinate(y), "r": coordinate(size)}, inside)
        return el("polygon", {**attrs, "points": path((x + size * a, y + size * b) for a, b in SHAPES[kind])}, inside)

    def line(self, dots: Iterable[tuple[float, float]], title: str | None = None) -> Html:
        """A line through ``dots``."""
        attrs = {"class": f"ln {self.colour}", "data-row": self.row, "stroke-dasharray": self.dash}
        return el("polyline", {**attrs, "points": path(dots)}, el("title", None, title) if title else None)

    def band(self, xs: Sequence[float], low: Sequence[float], high: Sequence[float]) -> Html:
        """The area between ``low`` and ``high``."""
        there, back = zip(xs, high, strict=True), zip(reversed(xs), reversed(low), strict=True)
        return el("polygon", {"class": f"bd {self.colour}", "data-row": self.row, "points": path([*there, *back])})

    def swatch(self) -> Html:
        """A sample of line and marker for a legend, hidden from screen readers."""
        ends = {"x1": 1, "y1": 7, "x2": 29, "y2": 7}
        line = el("line", {"class": f"ln {self.colour}", **ends, "stroke-dasharray": self.dash})
        marker = Style("", self.label, self.index).marker(15, 7)
        return el("svg", {"class": "swatch", "viewBox": "0 0 30 14", "aria-hidden": "true"}, line, marker)


Styles = Mapping[str, Style]  # row id to style, in the order of rows


def path(dots: Iterable[tuple[float, float]]) -> str:
    """The attribute ``points`` of an SVG shape, without the dots between two of their own height."""
    found: list[tuple[str, str]] = []
    for dot in ((coordinate(x), coordinate(y)) for x, y in dots):
        if len(found) > 1 and found[-2][1] == found[-1][1] == dot[1]:
            found.pop()
        found.append(dot)
    return " ".join(map(",".join, found))


def rule(x1: float, y1: float, x2: float, y2: float, kind: str, row: str | None = None) -> Html:
    """A straight line of the CSS class ``kind``."""
    ends = {"x1": coordinate(x1), "y1": coordinate(y1), "x2": coordinate(x2), "y2": coordinate(y2)}
    return el("line", {"class": kind, **ends, "data-row": row})


def label(x: float, y: float, content: str, kind: str, anchor: str | None = None, row: str | None = None) -> Html:
    """Text of the CSS class ``kind``, anchored at (x, y)."""
    where = {"x": coordinate(x), "y": coordinate(y), "text-anchor": anchor}
    return el("text", {"class": kind, **where, "data-row": row}, content)


def shorten(content: str, letters: int) -> str:
    """``content`` in at most ``letters`` characters: first without what is in brackets, then truncated."""
    bare = content.partition(" (")[0]
    if len(content) > letters and len(bare) <= letters - 4:
        content = f"{bare} (…)"
    return content if len(content) <= letters else content[: letters - 1] + "…"


@dataclass
class Panel:
    """One plot with a title, axes, and a description (``about``) for screen readers."""

    title: str
    about: str
    width: int = 360
    height: int = 240
    left: float = 46  # where the x axis starts
    foot: int = 40  # room below the x axis
    name: str | None = None  # the title for screen readers, where ``title`` is clear only beside its neighbours
    _parts: list[Html] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.top, self.right, self.bottom = 40.0, float(self.width - 12), float(self.height - self.foot)

    def add(self, *parts: Html) -> None:
        """Draw ``parts`` above everything added before."""
        self._parts += parts

    def x_axis(self, scale: Scale, title: str, count: int = 5) -> None:
        """Ticks below the axis, with vertical grid lines."""
        self.x_scale = scale
        ticks = scale.ticks(count)
        for value, written in zip(ticks, tick_labels(ticks), strict=True):
            x = scale(value)
            self.add(rule(x, self.top, x, self.bottom, "gr"))
            self.add(label(x, self.bottom + 14, written, "tk", "middle"))
        self.add(rule(self.left, self.bottom, self.right, self.bottom, "ax"))
        self.add(label((self.left + self.right) / 2, self.height - 7, title, "tx", "middle"))

    def y_axis(self, scale: Scale, title: str, count: int = 5) -> None:
        """Ticks on the left, with horizontal grid lines. ``title`` is horizontal, above the axis."""
        ticks = scale.ticks(count)
        for value, written in zip(ticks, tick_labels(ticks), strict=True):
            y = scale(value)
            self.add(rule(self.left, y, self.right, y, "gr"))
            self.add(label(self.left - 5, y + 3.5, written, "tk", "end"))
        self.add(label(4, self.top - 9, title, "tk"))

    def svg(self) -> Html:
        return el(
            "svg",
            {"class": "plot", "viewBox": f"0 0 {self.width} {self.height}", "role": "img"},
            el("title", None, self.name or self.title),
            el("desc", None, self.about),
            label(4, 14, shorten(self.title, self.width // 7), "hd"),
            join(*self._parts),
        )
