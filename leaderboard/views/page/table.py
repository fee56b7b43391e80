"""The main table of a section: each row with its aggregates, tasks, costs and runs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from backbench.leaderboard.board import columns
from backbench.leaderboard.views.page.markup import Child, Html, View, breakable, el, row_file
from backbench.leaderboard.views.page.numbers import NOTHING, UNKNOWN, coordinate, exact, score
from backbench.leaderboard.views.page.parts import badges, estimate, row_attributes, scroll
from backbench.leaderboard.views.page.plots.panel import Style, Styles
from backbench.leaderboard.views.page.plots.scales import Scale, interval_ends

GROUPS = {"agg": "Aggregates", "task": "Tasks, scores", "cost": "Costs", "run": "Runs"}


Cell = Child  # The script sorts by the number that a cell begins with. Cells without one come last.


@dataclass(frozen=True)
class Column:
    """A column of the table."""

    key: str
    group: str
    title: Child
    cells: Sequence[Cell] = ()  # of each row
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
    corner = _head(Column("name", "name", "Row", higher=False), None)
    has_iqm = any(row["aggregates"] for row in rows)
    heads = [_head(column, "descending" if has_iqm and column.key == "iqm" else None) for column in shown]
    data = [el("td", None, None if one.data is None else score(one.data)) for one in shown]
    lines = []
    for index, row in enumerate(rows):
        cells = [el("td", None, NOTHING if (cell := column.cells[index]) is None else cell) for column in shown]
        lines.append(el("tr", row_attributes(row), _name(row, styles.get(row["id"])), cells))
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


def _name(row: View, style: Style | None) -> Html:
    backbone, _, setting = row["label"].partition(" (")
    link = el("a", {"href": row_file(row)}, el("bdi", None, breakable(backbone)))
    says = [el("bdi", None, breakable(setting.removesuffix(")"))), " · "] if setting else None
    lacks = None
    if row["missing"]:
        tasks = ", ".join(row["missing"])
        few = f"lacks {tasks}" if len(row["missing"]) <= 2 else f"lacks {len(row['missing'])} tasks"
        lacks = el("small", {"class": "lacks", "title": tasks}, few)
    label = el("span", {"class": "label"}, style.swatch() if style else None, link)
    attrs = {"scope": "row", "data-v": row["label"]}
    kind = el("small", {"class": "kind"}, says, row["mechanism"])
    return el("th", attrs, label, kind, el("span", {"class": "badges"}, badges(row)), lacks)


def _columns(section: View, rows: Sequence[View]) -> list[Column]:
    found = []
    if section["complete"]:
        ends = interval_ends(row["aggregates"]["iqm"] for row in rows if row["aggregates"])
        scale = Scale(min(ends), max(ends), 4, 92) if len(set(ends)) > 1 else None
        for metric in columns.shown(columns.METRICS, "page"):
            cells: list[Cell] = []
            for row in rows:
                one = row["aggregates"] and row["aggregates"][metric.key]
                strip = _strip(one, scale) if one and metric.key == "iqm" and scale else None
                cells.append((estimate(one, metric.digits), strip) if one else None)
            own, unit = section.get(f"data_{metric.key}"), "" if metric.unit == "score" else metric.unit
            found.append(Column(metric.key, "agg", metric.title, cells, own, metric.larger_is_better, unit))
    for one in columns.TWIN if any(row["twin"] for row in rows) else ():
        found_of = [row["twin"] and row["twin"][one.key] for row in rows]
        cells = [estimate(value) if value else None for value in found_of]
        found.append(Column(one.key, "agg", one.title, cells, higher=one.larger_is_better))
    for task in section["tasks"]:
        if any(task in row["scores"] for row in rows):
            cells = [_score(row["scores"].get(task)) for row in rows]
            found.append(Column(f"task:{task}", "task", breakable(task), cells, section["data"].get(task)))
    for cost in columns.shown(columns.COSTS, "page"):
        cells = [_cost(row, cost) for row in rows]
        if any(cell is not None for cell in cells):
            higher = cost.larger_is_better
            found.append(Column(cost.key, "cost", cost.title, cells, higher=higher, unit=cost.unit))
    for one in columns.TUNING if section["tuning"] else ():
        values = [row["tuning"] and row["tuning"][one.key] for row in rows]
        cells = [None if value is None else exact(value) for value in values]
        found.append(Column(one.key, "run", one.title, cells, higher=one.larger_is_better, unit=one.unit))
    found.append(Column("seeds", "run", "Seeds", [len(row["seeds"]) for row in rows]))
    return [*found, Column("failed", "run", "Failed", list(map(_failed, rows)))]


def _strip(one: View, scale: Scale) -> Html:
    """The interval as a line, on one scale for the column."""
    x = coordinate(scale(one["value"]))
    low, high = (one["value"] if one[end] is None else one[end] for end in ("low", "high"))
    line = el("line", {"x1": coordinate(scale(low)), "x2": coordinate(scale(high)), "y1": 5, "y2": 5})
    dot = el("circle", {"cx": x, "cy": 5, "r": 3})
    return el("svg", {"class": "strip", "viewBox": "0 0 96 10", "aria-hidden": "true"}, line, dot)


def _score(one: View | None) -> Cell:
    ratio = el("small", None, f"×{score(one['ratio'], 2)}") if one and one["ratio"] is not None else None
    return (estimate(one), ratio) if one else None


def _cost(row: View, cost: columns.CostColumn) -> Cell:
    if (value := row["cost"].get(cost.key)) is None:
        return UNKNOWN if cost.counted and cost.required and row["cells"] else None
    low, high = map(exact, row["spread"][cost.key])
    return el("span", {"title": f"{low} to {high}"}, exact(value)) if low != high else exact(value)


def _failed(row: View) -> Cell:
    count = len(row["failed"])
    attrs = {"href": f"{row_file(row)}#failed", "class": "bad"}
    return el("a", attrs, f"{count} failed") if count else 0
