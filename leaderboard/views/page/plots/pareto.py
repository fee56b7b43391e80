"""IQM against each cost, with the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from backbench.leaderboard.board import columns
from backbench.leaderboard.views.page.markup import Html, View, el
from backbench.leaderboard.views.page.numbers import coordinate, short
from backbench.leaderboard.views.page.plots.panel import Panel, Style, Styles, label, rule, shorten
from backbench.leaderboard.views.page.plots.scales import axis, interval_ends

Box = tuple[float, float, float, float]  # left, top, right, bottom
NAMED = 8  # with more points than that, their names would hide the plot
# Offsets of a name from its point, the preferred one first.
OFFSETS = ((12, 4), (-12, 4), (12, 16), (-12, 16), (12, -9), (-12, -9), (12, 28), (-12, 28))


def pareto(section: View, rows: Sequence[View], styles: Styles) -> list[Html]:
    """A panel for each cost. Rings mark the rows that no other row beats in both, and a line joins them."""
    panels = []
    for measure in columns.shown(columns.COSTS, "page"):
        if found := [row for row in rows if row["aggregates"] and row["cost"].get(measure.key) is not None]:
            panels.append(_panel(measure, found, set(section["pareto"].get(measure.key, ())), styles))
    return panels


def _panel(measure: columns.CostColumn, rows: Sequence[View], front: set[str], styles: Styles) -> Html:
    title = measure.title if measure.title[:2].isupper() else measure.title.lower()
    way = "more" if measure.larger_is_better else "less"
    about = (
        f"IQM of each row against {measure.axis}; {way} is better. Rings mark rows that no other row beats in both, by "
        "point estimates."
    )
    panel = Panel(f"IQM against {title}", about, width=310, height=220)
    x = axis([row["cost"][measure.key] for row in rows], panel.left + 10, panel.right - 10, log_from=3)
    y = axis(interval_ends(row["aggregates"]["iqm"] for row in rows), panel.bottom - 4, panel.top + 6)
    panel.x_axis(x, f"{measure.axis}{', log' if x.log else ''} ({'→' if measure.larger_is_better else '←'} better)", 4)
    panel.y_axis(y, "IQM", 4)
    dots = {row["id"]: (x(row["cost"][measure.key]), y(row["aggregates"]["iqm"]["value"])) for row in rows}
    for (x1, y1), (x2, y2) in pairwise(sorted(dots[row["id"]] for row in rows if row["id"] in front)):
        panel.add(rule(x1, y1, x2, y2, "front"))
    _add_names(panel, [(*dots[row["id"]], styles[row["id"]]) for row in rows])  # below the markers
    for row in rows:
        (px, py), one, style = dots[row["id"]], row["aggregates"]["iqm"], styles[row["id"]]
        if one["low"] is not None and one["high"] is not None:
            panel.add(rule(px, y(one["low"]), px, y(one["high"]), f"ev {style.colour}", row=row["id"]))
        if row["id"] in front:
            ring = {"class": "ring", "data-row": row["id"], "cx": coordinate(px), "cy": coordinate(py), "r": 8}
            panel.add(el("circle", ring))
        said = f"{row['label']}: IQM {one['value']:.1f}, {measure.axis} {short(row['cost'][measure.key])}"
        panel.add(style.marker(px, py, said + (", on the front" if row["id"] in front else ""), 4.6))
    return panel.svg()


def _add_names(panel: Panel, dots: Sequence[tuple[float, float, Style]]) -> None:
    """Write each name beside its point, where it covers least of other names and points."""
    if len(dots) > NAMED:
        return
    taken = [(x - 8, y - 8, x + 8, y + 8) for x, y, _ in dots]
    for x, y, style in sorted(dots, key=lambda dot: dot[:2]):
        content = shorten(style.label, 14)
        width = 6.4 * len(content)
        choices: list[tuple[float, int, Box]] = []
        for index, (dx, dy) in enumerate(OFFSETS):
            left = x + dx - (width if dx < 0 else 0)
            box = (left, y + dy - 10, left + width, y + dy + 3)
            outside = max(0.0, panel.left - box[0]) + max(0.0, box[2] - panel.right) + max(0.0, box[3] - panel.bottom)
            covered = sum(_overlap(box, other) for other in taken)
            choices.append((covered + 40 * outside, index, box))
        _, index, box = min(choices)
        taken.append(box)
        dx, dy = OFFSETS[index]
        panel.add(label(x + dx, y + dy, content, "nm", None if dx > 0 else "end", row=style.row))


def _overlap(one: Box, other: Box) -> float:
    """Area that two boxes share."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return max(across, 0.0) * max(down, 0.0)
