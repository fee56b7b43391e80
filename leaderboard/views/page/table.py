"""The main table of a section: each row with its aggregates, tasks, costs and runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from backbench.leaderboard.board import columns
from backbench.leaderboard.views.page.markup import Child, Html, View, breakable, el, row_file
from backbench.leaderboard.views.page.numbers import NOTHING, coordinate, exact, score
from backbench.leaderboard.views.page.parts import badges, estimate, scroll
from backbench.leaderboard.views.page.plots.panel import Style, Styles
from backbench.leaderboard.views.page.plots.scales import Scale, interval_ends

GROUPS = {"agg": "Aggregates", "task": "Tasks, scores", "cost": "Costs", "run": "Runs"}


@dataclass(frozen=True)
class Column:
    """A column of the table."""

    key: str
    group: str
    title: Child
    cell: Callable[[View], tuple[float, Child] | None]  # the sort value and the content; None comes last
    data: float | None = None  # score of the data set itself
    higher: bool = True  # whether more is better: the first click on the head sorts the best to the top
    unit: str = ""


def ordered(rows: Sequence[View]) -> list[View]:
    """Rows by IQM, then those without one, by label."""

    def key(row: View) -> tuple[bool, float, str, str]:
        value = row["aggregates"]["iqm"]["value"] if row["aggregates"] else None
        return value is None, -(value or 0.0), row["label"], row["id"]

    return sorted(rows, key=key)


def main_table(section: View, rows: Sequence[View], styles: Styles) -> Html:
    """All numbers of ``rows``. With a script, buttons in the head sort it."""
    shown = _columns(section, rows)
    counts = Counter(column.group for column in shown)
    groups = [
        el("th", {"scope": "colgroup", "colspan": counts[group], "class": f"g-{group}"}, title)
        for group, title in GROUPS.items()
        if counts[group]
    ]
    corner = _head(Column("name", "name", "Row", lambda _: None, higher=False), None)
    has_iqm = any(row["aggregates"] for row in rows)
    heads = [_head(column, "descending" if has_iqm and column.key == "iqm" else None) for column in shown]
    data = [el("td", {"class": f"g-{one.group}"}, None if one.data is None else score(one.data)) for one in shown]
    lines = []
    for row in rows:
        attrs = {"data-row": row["id"], "data-name": f"{row['label']} {row['backbone']} {row['variant']}".lower()}
        cells = [_cell(column, row) for column in shown]
        lines.append(el("tr", attrs, _name(row, styles.get(row["id"])), cells))
    table = el(
        "table",
        {"class": "board"},
        el("caption", {"class": "unseen"}, f"Scores and costs: {section['title']}"),
        el("thead", None, el("tr", {"class": "groups"}, el("td"), groups), el("tr", None, corner, heads)),
        el("tbody", {"class": "data"}, el("tr", None, el("th", {"scope": "row"}, "data set’s own mean"), data)),
        el("tbody", {"class": "rows"}, lines),
    )
    return scroll("Scores and costs, scrolls sideways", table)


def _head(column: Column, sort: str | None) -> Html:
    button = el("button", {"type": "button", "disabled": True}, column.title)  # the script enables it
    unit = el("small", None, column.unit) if column.unit else None
    attrs = {"scope": "col", "data-key": column.key, "class": f"g-{column.group}", "aria-sort": sort,
             "data-first": None if column.higher else "ascending"}  # fmt: skip
    return el("th", attrs, button, unit)


def _cell(column: Column, row: View) -> Html:
    value, shown = column.cell(row) or (None, NOTHING)
    return el("td", {"class": f"g-{column.group}", "data-v": None if value is None else f"{value:.6g}"}, shown)


def _name(row: View, style: Style | None) -> Html:
    link = el("a", {"href": row_file(row)}, el("bdi", None, breakable(row["label"])))
    lacks = None
    if row["missing"]:
        tasks = ", ".join(row["missing"])
        few = f"lacks {tasks}" if len(row["missing"]) <= 2 else f"lacks {len(row['missing'])} tasks"
        lacks = el("small", {"class": "lacks", "title": tasks}, few)
    label = el("span", {"class": "label"}, style.swatch() if style else None, link)
    attrs = {"scope": "row", "data-v": row["label"]}
    return el("th", attrs, label, el("span", {"class": "badges"}, badges(row)), lacks)


def _columns(section: View, rows: Sequence[View]) -> list[Column]:
    found = []
    if section["complete"]:
        ends = interval_ends(row["aggregates"]["iqm"] for row in rows if row["aggregates"])
        scale = Scale(min(ends), max(ends), 4, 92) if len(set(ends)) > 1 else None
        metrics = columns.shown(columns.METRICS, "page")
        found += [_aggregate(one, section.get(f"data_{one.key}"), scale) for one in metrics]
    present = [task for task in section["tasks"] if any(task in row["scores"] for row in rows)]
    found += [_task(task, section["data"].get(task)) for task in present]
    costs = columns.shown(columns.COSTS, "page")
    found += [_cost(one) for one in costs if any(row["cost"].get(one.key) is not None for row in rows)]
    found.append(Column("seeds", "run", "Seeds", lambda row: (len(row["seeds"]), len(row["seeds"]))))
    return [*found, Column("failed", "run", "Failed", _failed)]


def _aggregate(measure: columns.Metric, own: float | None, scale: Scale | None) -> Column:
    def cell(row: View) -> tuple[float, Child] | None:
        if not row["aggregates"]:
            return None
        one = row["aggregates"][measure.key]
        strip = _strip(one, scale) if measure.key == "iqm" and scale else None
        return one["value"], (estimate(one, measure.digits), strip)

    unit = "" if measure.unit == "score" else measure.unit
    return Column(measure.key, "agg", measure.title, cell, own, measure.larger_is_better, unit)


def _strip(one: View, scale: Scale) -> Html:
    """The interval as a line, on one scale for the column."""
    x = coordinate(scale(one["value"]))
    low, high = (one["value"] if one[end] is None else one[end] for end in ("low", "high"))
    line = el("line", {"x1": coordinate(scale(low)), "x2": coordinate(scale(high)), "y1": 5, "y2": 5})
    dot = el("circle", {"cx": x, "cy": 5, "r": 3})
    return el("svg", {"class": "strip", "viewBox": "0 0 96 10", "aria-hidden": "true"}, line, dot)


def _task(task: str, own: float | None) -> Column:
    def cell(row: View) -> tuple[float, Child] | None:
        if (one := row["scores"].get(task)) is None:
            return None
        ratio = None if one["ratio"] is None else el("small", None, f"×{score(one['ratio'], 2)}")
        return one["value"], (estimate(one), ratio)

    return Column(f"task:{task}", "task", breakable(task), cell, own)


def _cost(measure: columns.CostColumn) -> Column:
    def cell(row: View) -> tuple[float, Child] | None:
        if (value := row["cost"].get(measure.key)) is None:
            return None
        low, high = row["spread"][measure.key]
        ends = f"median of {row['cells']} cells, {exact(low)} to {exact(high)}"
        return value, el("span", {"title": ends}, exact(value))

    return Column(measure.key, "cost", measure.title, cell, higher=measure.larger_is_better, unit=measure.unit)


def _failed(row: View) -> tuple[float, Child]:
    count = len(row["failed"])
    attrs = {"href": f"{row_file(row)}#failed", "class": "bad"}
    return count, el("a", attrs, f"{count} failed") if count else 0
