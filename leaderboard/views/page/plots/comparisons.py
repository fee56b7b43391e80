"""Plots that compare rows over all tasks: aggregates, profiles, probability of improvement, and IQM against costs.

They follow Agarwal et al. 2021 (arXiv:2108.13264): intervals instead of bars, distributions instead of single numbers.
"""

from collections.abc import Sequence
from itertools import pairwise

from backbench.leaderboard.board import columns
from backbench.leaderboard.views.page.markup import Html, View, el
from backbench.leaderboard.views.page.numbers import coordinate, minus, short
from backbench.leaderboard.views.page.plots.panel import Panel, Style, Styles, label, rule, shorten
from backbench.leaderboard.views.page.plots.scales import Scale, axis, interval_ends

PAIRS = 15  # of more pairs the plot of improvement shows only those of the first row
Box = tuple[float, float, float, float]  # left, top, right, bottom
BANDS = 6  # of more profiles the bands would hide each other
NAMED = 8  # with more points than that, their names would hide the plot
# Offsets of a name from its point, the preferred one first.
OFFSETS = ((12, 4), (-12, 4), (12, 16), (-12, 16), (12, -9), (-12, -9), (12, 28), (-12, 28))


def aggregates(rows: Sequence[View], styles: Styles) -> list[Html]:
    """A panel for each aggregate, with value and interval of each complete row."""
    rows, panels = [row for row in rows if row["aggregates"]], []
    for measure in (one for one in columns.shown(columns.METRICS, "page") if one.plotted and rows):
        found = [row["aggregates"][measure.key] for row in rows]
        title, about = f"{measure.title} ({measure.unit})", f"{measure.title} of each row with its 95 % interval."
        panel = Panel(title, about, width=310, height=68 + 24 * len(rows), left=112, foot=28)
        panel.x_axis(axis(interval_ends(found), panel.left + 4, panel.right - 8), "", 4)
        for index, (row, one) in enumerate(zip(rows, found, strict=True)):
            y = panel.top + 12 + 24 * index
            panel.add(label(panel.left - 8, y + 4, shorten(row["label"], 14), "tx", "end", row=row["id"]))
            said = f"{row['label']}: {one['value']:.{measure.digits}f}"
            _interval(panel, styles[row["id"]], y, one, said, measure.digits)
        panels.append(panel.svg())
    return panels


def _interval(panel: Panel, style: Style, y: float, one: View, said: str, digits: int) -> None:
    """Draw a value with its interval on the panel's x axis."""
    scale = panel.x_scale
    if one["low"] is not None and one["high"] is not None:
        panel.add(rule(scale(one["low"]), y, scale(one["high"]), y, f"iv {style.colour}", row=style.row))
        said += f", 95 % interval {one['low']:.{digits}f} to {one['high']:.{digits}f}"
        if one.get("over"):
            said += f" over {one['n']} {one['over']}"
    panel.add(style.marker(scale(one["value"]), y, said))


def profiles(rows: Sequence[View], styles: Styles) -> list[Html]:
    """Share of runs that score above each threshold, with pointwise bands where there are few rows."""
    rows = [row for row in rows if row["profile"] and len(row["profile"]["tau"]) > 1]
    if not rows:
        return []
    about = "For each row the share of runs, over seeds and tasks, that score above a threshold. Higher is better."
    panel = Panel("Performance profile", about, width=440, height=300)
    taus = [tau for row in rows for tau in row["profile"]["tau"]]
    x, y = Scale(min(taus), max(taus), panel.left, panel.right), Scale(0, 1, panel.bottom, panel.top)
    panel.x_axis(x, "score threshold")
    panel.y_axis(y, "share of runs above", 4)
    bands, lines = [], []
    for row in rows:
        one, style = row["profile"], styles[row["id"]]
        xs, shares = [x(tau) for tau in one["tau"]], [y(share) for share in one["share"]]
        if len(rows) <= BANDS and one["low"] is not None and one["high"] is not None:
            bands.append(style.band(xs, [y(share) for share in one["low"]], [y(share) for share in one["high"]]))
        lines.append(style.line(zip(xs, shares, strict=True), row["label"]))
    panel.add(*bands, *lines)
    return [panel.svg()]


def pairs(section: View, styles: Styles) -> list[View]:
    """Comparisons of the rows in ``styles``: each pair once, the better row first."""
    rank = {row_id: index for index, row_id in enumerate(styles)}
    found = [one for one in section["improvement"] if one["x"] in rank and one["y"] in rank]
    better = [one for one in found if (one["probability"], rank[one["y"]]) > (0.5, rank[one["x"]])]
    return sorted(better, key=lambda one: sorted((rank[one["x"]], rank[one["y"]])))


def _drawn(found: Sequence[View], styles: Styles) -> Sequence[View]:
    """All of ``found``, or of too many those of the first row."""
    first_row = next(iter(styles), None)
    return found if len(found) <= PAIRS else [one for one in found if first_row in (one["x"], one["y"])][:PAIRS]


def paired(section: View, styles: Styles) -> list[Html]:
    """Difference in score of two rows from the same starts: each pair once, the better row first."""
    rank = {row_id: index for index, row_id in enumerate(styles)}
    both = [one for one in section["paired"] if one["x"] in rank and one["y"] in rank]
    better = [one for one in both if (one["difference"], rank[one["y"]]) > (0, rank[one["x"]])]
    if not (found := _drawn(sorted(better, key=lambda one: sorted((rank[one["x"]], rank[one["y"]]))), styles)):
        return []
    about = (
        "For each pair of rows the mean score of the first minus that of the second from the same starts, over all "
        "tasks, with its interval. At zero neither is better. The mark s: over starts only, without the noise of "
        "training."
    )
    panel = Panel("Paired difference, X − Y", about, width=440, height=80 + 20 * len(found), left=160)
    ends = [0.0, *(one[end] for one in found for end in ("difference", "low", "high") if one[end] is not None)]
    scale = axis(ends, panel.left + 4, panel.right - 112)
    panel.x_axis(scale, "score", 4)
    panel.add(rule(scale(0), panel.top, scale(0), panel.bottom, "half"))
    for index, one in enumerate(found):
        y = panel.top + 10 + 20 * index
        first, second = styles[one["x"]], styles[one["y"]]
        says = f"{shorten(first.label, 12)} − {shorten(second.label, 12)}"
        panel.add(label(panel.left - 8, y + 4, says, "tx", "end", row=first.row))
        mark = "s" if one["over"] == "starts" else ""
        around = "" if one["low"] is None else f" [{minus(format(one['low'], '.1f'))}, {one['high']:.1f}]{mark}"
        panel.add(label(panel.right, y + 4, f"{one['difference']:.1f}{around}", "tx", "end"))
        said = f"{first.label} minus {second.label}: {one['difference']:.1f}"
        if around:
            said += f", 95 % interval {one['low']:.1f} to {one['high']:.1f} over {one['over']}"
            panel.add(rule(scale(one["low"]), y, scale(one["high"]), y, f"iv {first.colour}", row=first.row))
        panel.add(first.marker(scale(one["difference"]), y, said))
    return [panel.svg()]


def improvement(section: View, styles: Styles) -> list[Html]:
    """Probability that a run of one row scores higher than a run of another on the same task."""
    if not (found := _drawn(pairs(section, styles), styles)):
        return []
    about = (
        "For each pair of rows the probability, with its interval, that a run of the first scores higher than a run of "
        "the second on the same task. At one half neither is better."
    )
    panel = Panel("Probability of improvement, P(X > Y)", about, width=440, height=80 + 20 * len(found), left=160)
    scale = Scale(0, 1, panel.left + 4, panel.right - 112)
    panel.x_axis(scale, "probability")
    panel.add(rule(scale(0.5), panel.top, scale(0.5), panel.bottom, "half"))
    for index, one in enumerate(found):
        y = panel.top + 10 + 20 * index
        first, second = styles[one["x"]], styles[one["y"]]
        says = f"{shorten(first.label, 12)} > {shorten(second.label, 12)}"
        panel.add(label(panel.left - 8, y + 4, says, "tx", "end", row=first.row))
        ends = "" if one["low"] is None else f" [{one['low']:.2f}, {one['high']:.2f}]"
        panel.add(label(panel.right, y + 4, f"{one['probability']:.2f}{ends}", "tx", "end"))
        said = f"P({first.label} > {second.label}) = {one['probability']:.2f}"
        _interval(panel, first, y, {**one, "value": one["probability"]}, said, 2)
    return [panel.svg()]


def pareto(section: View, rows: Sequence[View], styles: Styles) -> list[Html]:
    """A panel for each cost. Rings mark the rows that no other row beats in both, and a line joins them."""
    panels = []
    for measure in (one for one in columns.shown(columns.COSTS, "page") if one.plotted):
        if found := [row for row in rows if row["aggregates"] and row["cost"].get(measure.key) is not None]:
            panels.append(_cost(measure, found, set(section["pareto"].get(measure.key, ())), styles))
    return panels


def _cost(measure: columns.CostColumn, rows: Sequence[View], front: set[str], styles: Styles) -> Html:
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
