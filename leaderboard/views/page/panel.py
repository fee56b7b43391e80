"""The frame of a plot: title, axes, markers and lines, as inline SVG without scripts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backbench.leaderboard.views.page.markup import Html, el, join
from backbench.leaderboard.views.page.scales import Scale, numbers, position

COLOURS = 8
DASHES = (None, "7 3", "2 2.5", "9 3 2 3")
# Corners about the origin, in units of the marker's size.
SHAPES: dict[str, tuple[tuple[float, float], ...]] = {
    "square": ((-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)),
    "up": ((0, -1.15), (1.1, 0.85), (-1.1, 0.85)),
    "diamond": ((0, -1.3), (1.15, 0), (0, 1.3), (-1.15, 0)),
    "down": ((0, 1.15), (1.1, -0.85), (-1.1, -0.85)),
    "bar": ((-0.5, -1.3), (0.5, -1.3), (0.5, 1.3), (-0.5, 1.3)),
}
MARKERS = ("circle", *SHAPES)


@dataclass(frozen=True)
class Look:
    """How a row is drawn in every plot: colour, marker and dash, so that it is known without the colour too."""

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
        """The row's marker about (x, y)."""
        kind = MARKERS[self.index % len(MARKERS)]
        attrs: dict[str, object] = {"class": f"mk {self.colour}", "data-row": self.row}
        inside = [el("title", None, title)] if title else []
        if kind == "circle":
            return el("circle", {**attrs, "cx": position(x), "cy": position(y), "r": position(size)}, *inside)
        corners = " ".join(f"{position(x + size * a)},{position(y + size * b)}" for a, b in SHAPES[kind])
        return el("polygon", {**attrs, "points": corners}, *inside)

    def line(self, dots: Iterable[tuple[float, float]], title: str | None = None) -> Html:
        """A line through ``dots`` in the row's colour and dash."""
        attrs = {"class": f"ln {self.colour}", "data-row": self.row, "stroke-dasharray": self.dash}
        return el("polyline", {**attrs, "points": path(dots)}, *([el("title", None, title)] if title else []))

    def band(self, xs: Sequence[float], low: Sequence[float], high: Sequence[float]) -> Html:
        """The area between ``low`` and ``high``."""
        there, back = zip(xs, high, strict=True), zip(reversed(xs), reversed(low), strict=True)
        return el("polygon", {"class": f"bd {self.colour}", "data-row": self.row, "points": path([*there, *back])})

    def swatch(self) -> Html:
        """A sample of line and marker, for a legend; it says nothing to who cannot see it."""
        line = el(
            "line", {"class": f"ln {self.colour}", "x1": 1, "y1": 7, "x2": 29, "y2": 7, "stroke-dasharray": self.dash}
        )
        plain = Look("", self.label, self.index)
        return el("svg", {"class": "swatch", "viewBox": "0 0 30 14", "aria-hidden": "true"}, line, plain.marker(15, 7))


def path(dots: Iterable[tuple[float, float]]) -> str:
    """Coordinates as SVG takes them."""
    return " ".join(f"{position(x)},{position(y)}" for x, y in dots)


def rule(x1: float, y1: float, x2: float, y2: float, kind: str, **attrs: object) -> Html:
    """A straight line of the class ``kind``."""
    ends = {"x1": position(x1), "y1": position(y1), "x2": position(x2), "y2": position(y2)}
    return el("line", {"class": kind, **ends, **attrs})


def label(x: float, y: float, content: str, kind: str = "tx", anchor: str = "start", **attrs: object) -> Html:
    """Text at (x, y); ``anchor``: which end of it stands there."""
    where = {"x": position(x), "y": position(y), "text-anchor": None if anchor == "start" else anchor}
    return el("text", {"class": kind, **where, **attrs}, content)


def shorten(content: str, letters: int) -> str:
    """``content`` cut to fit; the whole stands in the table. What is in brackets goes first."""
    bare = content.partition(" (")[0]
    if len(content) > letters and len(bare) <= letters - 4:
        content = f"{bare} (…)"
    return content if len(content) <= letters else content[: letters - 1] + "…"


class Panel:
    """One plot with a title, axes and a description for who cannot see it."""

    def __init__(
        self,
        title: str,
        about: str,
        *,
        width: int = 360,
        height: int = 240,
        left: int = 46,
        bottom: int = 40,
        name: str | None = None,
    ) -> None:
        """``name``: what it is called where its surroundings are not seen; default: the title."""
        self.width, self.height = width, height
        self.left, self.right = float(left), float(width - 12)
        self.top, self.bottom = 40.0, float(height - bottom)
        self.title, self.about, self.name = title, about, name or title
        self._parts: list[Html] = []

    def add(self, *parts: Html) -> None:
        """Draws ``parts`` above what is there."""
        self._parts += parts

    def x_axis(self, scale: Scale, title: str, count: int = 5) -> None:
        """Ticks below, grid lines upwards."""
        ticks = scale.ticks(count)
        for value, written in zip(ticks, numbers(ticks), strict=True):
            x = scale(value)
            self.add(rule(x, self.top, x, self.bottom, "gr"))
            self.add(label(x, self.bottom + 14, written, "tk", "middle"))
        self.add(rule(self.left, self.bottom, self.right, self.bottom, "ax"))
        self.add(label((self.left + self.right) / 2, self.height - 7, title, "tx", "middle"))

    def y_axis(self, scale: Scale, title: str, count: int = 5) -> None:
        """Ticks on the left, grid lines to the right; ``title`` stands level above the axis."""
        ticks = scale.ticks(count)
        for value, written in zip(ticks, numbers(ticks), strict=True):
            y = scale(value)
            self.add(rule(self.left, y, self.right, y, "gr"))
            self.add(label(self.left - 5, y + 3.5, written, "tk", "end"))
        self.add(label(4, self.top - 9, title, "tk"))

    def svg(self) -> Html:
        """The plot."""
        head = label(4, 14, shorten(self.title, self.width // 7), "hd")
        return el(
            "svg",
            {"class": "plot", "viewBox": f"0 0 {self.width} {self.height}", "role": "img"},
            el("title", None, self.name),
            el("desc", None, self.about),
            head,
            join(*self._parts),
        )
