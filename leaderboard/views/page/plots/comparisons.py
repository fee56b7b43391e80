"""Plots that compare rows over all tasks: aggregates, performance profiles and probability of improvement.

They follow Agarwal et al. 2021 (arXiv:2108.13264): intervals instead of bars, distributions instead of single numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from backbench.leaderboard.board import columns
from backbench.leaderboard.views.page.markup import Html, View
from backbench.leaderboard.views.page.plots.panel import Panel, Style, Styles, label, rule, shorten
from backbench.leaderboard.views.page.plots.scales import Scale, axis, interval_ends

PAIRS = 15  # of more pairs the plot of improvement shows only those of the first row


def aggregates(rows: Sequence[View], styles: Styles) -> list[Html]:
    """A panel for each aggregate, with value and interval of each complete row."""
    rows, panels = [row for row in rows if row["aggregates"]], []
    for measure in columns.shown(columns.METRICS, "page") if rows else ():
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
    """Share of runs that score above each threshold, with pointwise bands."""
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
        if one["low"] is not None and one["high"] is not None:
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


def improvement(section: View, styles: Styles) -> list[Html]:
    """Probability that a run of one row scores higher than a run of another on the same task."""
    found = pairs(section, styles)
    if len(found) > PAIRS:
        first_row = next(iter(styles))
        found = [one for one in found if first_row in (one["x"], one["y"])][:PAIRS]
    if not found:
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
