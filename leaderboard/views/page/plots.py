"""The plots of a section: each function gives a list of panels, empty where the numbers for it are not there.

Aggregates, performance profiles and probability of improvement are drawn as Agarwal et al. 2021 (arXiv:2108.13264)
propose: intervals instead of bars, distributions instead of single numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from backbench.leaderboard.board import columns
from backbench.leaderboard.board.columns import CostColumn, Metric
from backbench.leaderboard.views.page.markup import Html, el
from backbench.leaderboard.views.page.panel import Look, Panel, label, rule, shorten
from backbench.leaderboard.views.page.scales import Scale, axis, number, points, position, span

Row = Mapping[str, Any]
Looks = Mapping[str, Look]
PAIRS = 15
CURVE_POINTS = 40


def aggregates(rows: Sequence[Row], looks: Looks) -> list[Html]:
    """Point and interval of each of the four aggregates, a panel each, a line for each complete row."""
    rows = [row for row in rows if row["aggregates"]]
    return [_aggregate(measure, rows, looks) for measure in columns.shown(columns.METRICS, "page")] if rows else []


def _aggregate(measure: Metric, rows: Sequence[Row], looks: Looks) -> Html:
    found = [(row, row["aggregates"][measure.key]) for row in rows]
    panel = Panel(
        f"{measure.title} ({measure.unit})",
        f"{measure.title} of each row with its 95 % interval.",
        height=68 + 24 * len(rows),
        bottom=28,
        left=112,
        width=310,
    )
    ends = [one[end] for _, one in found for end in ("value", "low", "high") if one[end] is not None]
    scale = axis(ends, panel.left + 4, panel.right - 8)
    panel.x_axis(scale, "", 4)
    digits = measure.digits
    for index, (row, one) in enumerate(found):
        y = panel.top + 12 + 24 * index
        panel.add(label(panel.left - 8, y + 4, shorten(row["label"], 14), "tx", "end", **{"data-row": row["id"]}))
        _interval(panel, looks[row["id"]], scale, y, one, f"{row['label']}: {one['value']:.{digits}f}", digits)
    return panel.svg()


def _interval(panel: Panel, look: Look, scale: Scale, y: float, one: Mapping[str, Any], says: str, digits: int) -> None:
    if one["low"] is not None and one["high"] is not None:
        ends = {"class": f"iv {look.colour}", "data-row": look.row}
        panel.add(rule(scale(one["low"]), y, scale(one["high"]), y, ends.pop("class"), **ends))
        says += f", 95 % interval {one['low']:.{digits}f} to {one['high']:.{digits}f}"
        if one.get("over"):
            says += f" over {one['n']} {one['over']}"
    panel.add(look.marker(scale(one["value"]), y, says))


def profiles(rows: Sequence[Row], looks: Looks) -> list[Html]:
    """Share of runs that score above each threshold, with pointwise bands."""
    rows = [row for row in rows if row["profile"] and len(row["profile"]["tau"]) > 1]
    if not rows:
        return []
    panel = Panel(
        "Performance profile",
        "For each row the share of runs, over seeds and tasks, that score more than a threshold. Higher is better.",
        width=440,
        height=300,
    )
    taus = [tau for row in rows for tau in row["profile"]["tau"]]
    x, y = Scale(min(taus), max(taus), panel.left, panel.right), Scale(0, 1, panel.bottom, panel.top)
    panel.x_axis(x, "threshold, points")
    panel.y_axis(y, "share of runs above", 4)
    for row in rows:
        one, look = row["profile"], looks[row["id"]]
        xs = [x(tau) for tau in one["tau"]]
        if one["low"] is not None and one["high"] is not None:
            panel.add(look.band(xs, [y(share) for share in one["low"]], [y(share) for share in one["high"]]))
    for row in rows:
        one = row["profile"]
        dots = [(x(tau), y(share)) for tau, share in zip(one["tau"], one["share"], strict=True)]
        panel.add(looks[row["id"]].line(dots, row["label"]))
    return [panel.svg()]


def pairs(section: Mapping[str, Any], looks: Looks) -> list[Mapping[str, Any]]:
    """What the plot of improvement shows: each pair once, the better row first; of many only the first row's."""
    chosen = _pairs(section, looks)
    if len(chosen) > PAIRS:
        first = chosen[0][0][0]
        chosen = [item for item in chosen if first in item[0]][:PAIRS]
    return [one for _, one in chosen]


def every_pair(section: Mapping[str, Any], looks: Looks) -> bool:
    """Whether ``pairs`` leaves none out."""
    return len(_pairs(section, looks)) <= PAIRS


def _pairs(section: Mapping[str, Any], looks: Looks) -> list[tuple[tuple[str, ...], Mapping[str, Any]]]:
    rank = {row_id: index for index, row_id in enumerate(looks)}
    found = [one for one in section["improvement"] if one["x"] in rank and one["y"] in rank and one["x"] != one["y"]]
    best: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for one in found:
        key = tuple(sorted((one["x"], one["y"]), key=rank.__getitem__))
        kept = best.setdefault(key, one)
        if (one["probability"], one["x"] == key[0]) > (kept["probability"], kept["x"] == key[0]):
            best[key] = one
    return sorted(best.items(), key=lambda item: [rank[row_id] for row_id in item[0]])


def improvement(section: Mapping[str, Any], looks: Looks) -> list[Html]:
    """Probability that a run of one row beats a run of another on the same task; one half says nothing."""
    found = pairs(section, looks)
    if not found:
        return []
    panel = Panel(
        "Probability of improvement, P(X > Y)",
        "For each pair of rows the probability that a run of the first beats one of the second on the same task, with "
        "its interval. At one half neither is better.",
        width=440,
        height=80 + 20 * len(found),
        left=160,
    )
    scale = Scale(0, 1, panel.left + 4, panel.right - 112)
    panel.x_axis(scale, "probability")
    panel.add(rule(scale(0.5), panel.top, scale(0.5), panel.bottom, "half"))
    for index, one in enumerate(found):
        y = panel.top + 10 + 20 * index
        first, second = looks[one["x"]], looks[one["y"]]
        says = f"{shorten(first.label, 12)} > {shorten(second.label, 12)}"
        panel.add(label(panel.left - 8, y + 4, says, "tx", "end", **{"data-row": first.row}))
        ends = "" if one["low"] is None else f" [{one['low']:.2f}, {one['high']:.2f}]"
        panel.add(label(panel.right, y + 4, f"{one['probability']:.2f}{ends}", "tx", "end"))
        whole = {**one, "value": one["probability"]}
        _interval(panel, first, scale, y, whole, f"P({first.label} > {second.label}) = {one['probability']:.2f}", 2)
    return [panel.svg()]


def pareto(section: Mapping[str, Any], rows: Sequence[Row], looks: Looks) -> list[Html]:
    """IQM against each cost. Rows that no other row beats in both are ringed and joined."""
    panels = []
    for measure in columns.shown(columns.COSTS, "page"):
        found = [row for row in rows if row["aggregates"] and row["cost"].get(measure.key) is not None]
        if found:
            panels.append(_pareto(measure, found, set(section["pareto"].get(measure.key, ())), looks))
    return panels


def _pareto(measure: CostColumn, rows: Sequence[Row], front: set[str], looks: Looks) -> Html:
    way = "more" if measure.larger_is_better else "less"
    panel = Panel(
        f"IQM against {measure.title if measure.title[:2].isupper() else measure.title.lower()}",
        f"IQM of each row against {measure.axis}; {way} is better. Rings mark rows that no other row beats in both, by "
        "point estimates.",
        width=310,
        height=220,
    )
    x = axis([row["cost"][measure.key] for row in rows], panel.left + 10, panel.right - 10, log_from=3)
    estimates = [row["aggregates"]["iqm"] for row in rows]
    y = axis(
        [one[end] for one in estimates for end in ("value", "low", "high") if one[end] is not None],
        panel.bottom - 4,
        panel.top + 6,
    )
    panel.x_axis(x, f"{measure.axis}{', log' if x.log else ''} ({'→' if measure.larger_is_better else '←'} better)", 4)
    panel.y_axis(y, "IQM, points", 4)
    dots = {row["id"]: (x(row["cost"][measure.key]), y(row["aggregates"]["iqm"]["value"])) for row in rows}
    ringed = sorted((dots[row["id"]] for row in rows if row["id"] in front), key=lambda dot: dot)
    for (x1, y1), (x2, y2) in pairwise(ringed):
        panel.add(rule(x1, y1, x2, y2, "front"))
    # Below the markers, so that a name hides none.
    _names(panel, [(*dots[row["id"]], looks[row["id"]]) for row in rows])
    for row in rows:
        (px, py), one, look = dots[row["id"]], row["aggregates"]["iqm"], looks[row["id"]]
        if one["low"] is not None and one["high"] is not None:
            panel.add(rule(px, y(one["low"]), px, y(one["high"]), f"ev {look.colour}", **{"data-row": row["id"]}))
        if row["id"] in front:
            ring = {"class": "ring", "data-row": row["id"], "cx": position(px), "cy": position(py), "r": 8}
            panel.add(el("circle", ring))
        said = f"{row['label']}: IQM {one['value']:.1f}, {measure.axis} {number(row['cost'][measure.key])}"
        panel.add(look.marker(px, py, said + (", on the front" if row["id"] in front else ""), 4.6))
    return panel.svg()


def _names(panel: Panel, dots: Sequence[tuple[float, float, Look]]) -> None:
    """Names beside their points, each at the place where it hides least of other names and points."""
    if len(dots) > 8:
        return
    taken = [(x - 8, y - 8, x + 8, y + 8) for x, y, _ in dots]
    for x, y, look in sorted(dots, key=lambda dot: dot[:2]):
        content = shorten(look.label, 14)
        wide = 6.4 * len(content)
        places: list[tuple[float, int, int, int, Box]] = []
        for dx, dy in ((12, 4), (-12, 4), (12, 16), (-12, 16), (12, -9), (-12, -9), (12, 28), (-12, 28)):
            left = x + dx - (wide if dx < 0 else 0)
            box = (left, y + dy - 10, left + wide, y + dy + 3)
            outside = max(0.0, panel.left - box[0]) + max(0.0, box[2] - panel.right) + max(0.0, box[3] - panel.bottom)
            hidden = sum(_overlap(box, other) for other in taken)
            places.append((hidden + 40 * outside, len(places), dx, dy, box))
        _, _, dx, dy, box = min(places)
        taken.append(box)
        panel.add(label(x + dx, y + dy, content, "nm", "start" if dx > 0 else "end", **{"data-row": look.row}))


Box = tuple[float, float, float, float]


def _overlap(one: Box, other: Box) -> float:
    """Area that two boxes (left, top, right, bottom) share."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return max(across, 0.0) * max(down, 0.0)


def curves(
    section: Mapping[str, Any], rows: Sequence[Row], looks: Looks, *, bands: bool = False, most: int = CURVE_POINTS
) -> list[Html]:
    """Training loss against updates, a panel for each task. ``bands``: smallest and largest of the seeds too."""
    return [
        panel
        for task in section["tasks"]
        if (panel := _lines(task, "training loss", rows, "curves", looks, bands=bands, most=most))
    ]


def evaluations(section: Mapping[str, Any], rows: Sequence[Row], looks: Looks) -> list[Html]:
    """Score during training, a panel for each task that was evaluated more than once."""
    return [
        panel
        for task in section["tasks"]
        if any(len(row["evaluations"].get(task, ())) > 1 for row in rows)
        and (panel := _lines(task, "score, points", rows, "evaluations", looks, bands=False, most=CURVE_POINTS))
    ]


def _lines(
    task: str, unit: str, rows: Sequence[Row], kind: str, looks: Looks, *, bands: bool, most: int
) -> Html | None:
    found = [(looks[row["id"]], thin(_settled(row[kind][task], kind), most)) for row in rows if row[kind].get(task)]
    if not found:
        return None
    about = f"{unit} of each row against optimiser updates on {task}; the mean over seeds."
    panel = Panel(task, about, height=210, name=f"{task}, {unit}")
    steps = [dot[0] for _, line in found for dot in line]
    values = [value for _, line in found for dot in line for value in dot[1 : 4 if bands else 2]]
    x = Scale(0, max(*steps, 1), panel.left, panel.right - 6)
    y = axis(values, panel.bottom, panel.top, log_from=1 if kind == "curves" else None)
    panel.x_axis(x, "updates", 4)
    panel.y_axis(y, unit + (", log" if y.log else ""), 4)
    for look, line in found:
        xs = [x(dot[0]) for dot in line]
        if bands and len(line[0]) == 4:
            panel.add(look.band(xs, [y(dot[2]) for dot in line], [y(dot[3]) for dot in line]))
        panel.add(look.line(zip(xs, [y(dot[1]) for dot in line], strict=True), look.label))
        if len(line) == 1 or kind == "evaluations":
            for place, dot in zip(xs, line, strict=True):
                panel.add(look.marker(place, y(dot[1]), f"{look.label}: {number(dot[1])} at {dot[0]:,}", 3))
    return panel.svg()


def _settled(line: Sequence[Sequence[float]], kind: str) -> Sequence[Sequence[float]]:
    """A curve of the loss without its first twentieth: the fall at the start would flatten all that follows."""
    if kind != "curves":
        return line
    return [dot for dot in line if dot[0] >= line[-1][0] / 20] or line


def thin(line: Sequence[Sequence[float]], most: int) -> list[Sequence[float]]:
    """At most ``most`` of the points, evenly taken, first and last among them."""
    if len(line) <= most:
        return list(line)
    return [line[round(index * (len(line) - 1) / (most - 1))] for index in range(most)]


def targets(section: Mapping[str, Any], rows: Sequence[Row], looks: Looks) -> list[Html]:
    """Mean return against the return that was asked for, a panel for each task; on the diagonal both are equal."""
    panels = []
    for task in section["tasks"]:
        found = [(looks[row["id"]], sorted(row["targets"][task])) for row in rows if row["targets"].get(task)]
        if found:
            panels.append(_target(task, found, section["task_settings"].get(task, {}).get("returns_to_go", "raw")))
    return panels


def _target(task: str, found: Sequence[tuple[Look, Sequence[Sequence[float]]]], scale: str) -> Html:
    same = scale == "raw"  # clipped targets are on another scale than raw returns: a diagonal would mean nothing
    panel = Panel(
        task,
        f"Mean raw return of each row on {task} against the target return it was conditioned on."
        + (" On the diagonal they are equal." if same else f" Targets are sums of {scale} rewards: no diagonal."),
        name=f"{task}, return against target return",
    )
    asked = [dot[0] for _, line in found for dot in line]
    got = [dot[1] for _, line in found for dot in line]
    both = [*asked, *got, 0.0] if same else []
    x = Scale(*span(both or [*asked, 0.0]), panel.left, panel.right - 4)
    y = Scale(*span(both or [*got, 0.0]), panel.bottom, panel.top)
    panel.x_axis(x, "target return" + ("" if same else f" ({scale} rewards)"))
    panel.y_axis(y, "return", 5)
    if same:
        panel.add(rule(x(x.low), y(x.low), x(x.high), y(x.high), "half"))
    for look, line in found:
        panel.add(look.line([(x(dot[0]), y(dot[1])) for dot in line]))
        for dot in line:
            says = f"{look.label}: asked for {number(dot[0])}, got {number(dot[1])} ({points(dot[2])} points)"
            panel.add(look.marker(x(dot[0]), y(dot[1]), says))
    return panel.svg()
