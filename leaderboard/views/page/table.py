"""The tables of a section: rows with their aggregates, tasks and costs, and what others have published."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backbench.leaderboard.board import columns as board_columns
from backbench.leaderboard.board.columns import CostColumn, Metric
from backbench.leaderboard.views.page.markup import Child, Html, breakable, cite, el, join, name, row_file
from backbench.leaderboard.views.page.panel import Look
from backbench.leaderboard.views.page.scales import NOTHING, Scale, exact, minus, points, position
from backbench.leaderboard.views.page.words import CONTROLS, SELF_REPORTED, VERIFIED

Row = Mapping[str, Any]
REPORTED = el("span", {"class": "badge rep"}, "reported")
GROUPS = {"agg": "Aggregates", "task": "Tasks, points", "cost": "Costs", "run": "Runs"}


@dataclass(frozen=True)
class Column:
    """A column: what it sorts by (None comes last) and what a cell shows."""

    key: str
    group: str
    title: Child
    value: Callable[[Row], float | None]
    show: Callable[[Row], Child]
    data: float | None = None
    """The data set's own value."""
    higher: bool = True
    """Whether more is better: what a first click shows on top."""
    unit: str = ""


def ordered(rows: Sequence[Row]) -> list[Row]:
    """Rows by IQM, those without one last, then by label."""

    def key(row: Row) -> tuple[bool, float, str, str]:
        value = row["aggregates"]["iqm"]["value"] if row["aggregates"] else None
        return value is None, -(value or 0.0), row["label"], row["id"]

    return sorted(rows, key=key)


def main_table(section: Mapping[str, Any], rows: Sequence[Row], looks: Mapping[str, Look]) -> Html:
    """Every row with everything that is a number of it. Buttons in the head sort where there is a script."""
    columns = _columns(section, rows)
    counts = {group: sum(column.group == group for column in columns) for group in GROUPS}
    groups = [
        el("th", {"scope": "colgroup", "colspan": counts[group], "class": f"g-{group}"}, title)
        for group, title in GROUPS.items()
        if counts[group]
    ]
    corner = _head(Column("name", "name", "Row", lambda _: None, lambda _: None, higher=False), None)
    has_iqm = any(row["aggregates"] for row in rows)
    heads = [_head(column, "descending" if has_iqm and column.key == "iqm" else None) for column in columns]
    lines = [
        el(
            "tr",
            {"data-row": row["id"], "data-name": f"{row['label']} {row['backbone']} {row['variant']}".lower()},
            _name(row, looks.get(row["id"])),
            [_cell(column, row) for column in columns],
        )
        for row in rows
    ]
    own = [
        el("td", {"class": f"g-{column.group}"}, points(column.data) if column.data is not None else "")
        for column in columns
    ]
    return el(
        "div",
        {"class": "scroll", "tabindex": "0", "role": "region", "aria-label": "Scores and costs, scrolls sideways"},
        el(
            "table",
            {"class": "board"},
            el("caption", {"class": "unseen"}, f"Scores and costs: {section['title']}"),
            el("thead", None, el("tr", {"class": "groups"}, el("td"), groups), el("tr", None, corner, heads)),
            el("tbody", {"class": "data"}, el("tr", None, el("th", {"scope": "row"}, "data set’s own mean"), own)),
            el("tbody", {"class": "rows"}, lines),
        ),
    )


def _head(column: Column, sort: str | None) -> Html:
    # The script enables it: without one there is nothing to press.
    button = el("button", {"type": "button", "disabled": True}, column.title)
    unit = el("small", None, column.unit) if column.unit else None
    first = None if column.higher else "ascending"
    attrs = {"scope": "col", "data-key": column.key, "class": f"g-{column.group}", "aria-sort": sort,
             "data-first": first}  # fmt: skip
    return el("th", attrs, button, unit)


def _cell(column: Column, row: Row) -> Html:
    value = column.value(row)
    shown = value is not None or column.group == "run"
    number = None if value is None else f"{value:.6g}"
    return el("td", {"class": f"g-{column.group}", "data-v": number}, column.show(row) if shown else NOTHING)


def _columns(section: Mapping[str, Any], rows: Sequence[Row]) -> list[Column]:
    columns = []
    if section["complete"]:
        metrics = board_columns.shown(board_columns.METRICS, "page")
        ends = [row["aggregates"]["iqm"][end] for row in rows if row["aggregates"] for end in ("value", "low", "high")]
        found = [end for end in ends if end is not None]
        scale = Scale(min(found), max(found), 4, 92) if len(set(found)) > 1 else None
        columns += [_aggregate(measure, section.get(f"data_{measure.key}"), scale) for measure in metrics]
    present = [task for task in section["tasks"] if any(task in row["scores"] for row in rows)]
    columns += [_task(task, section["data"].get(task)) for task in present]
    costs = board_columns.shown(board_columns.COSTS, "page")
    columns += [_cost(measure) for measure in costs if any(row["cost"].get(measure.key) is not None for row in rows)]
    columns.append(Column("seeds", "run", "Seeds", lambda row: float(len(row["seeds"])), _seeds))
    columns.append(Column("failed", "run", "Failed", lambda row: float(len(row["failed"])), _failed))
    return columns


def _aggregate(measure: Metric, own: float | None, scale: Scale | None) -> Column:
    def value(row: Row) -> float | None:
        return row["aggregates"][measure.key]["value"] if row["aggregates"] else None

    def show(row: Row) -> Child:
        one = row["aggregates"][measure.key]
        drawn = _strip(one, scale) if measure.key == "iqm" and scale else None
        return estimate(one, measure.digits), drawn

    unit = "" if measure.unit == "points" else measure.unit
    return Column(measure.key, "agg", measure.title, value, show, own, measure.larger_is_better, unit)


def _strip(one: Mapping[str, Any], scale: Scale) -> Html:
    """The interval on one scale for the whole column."""
    x = position(scale(one["value"]))
    low, high = (one["value"] if one[end] is None else one[end] for end in ("low", "high"))
    line = el("line", {"x1": position(scale(low)), "x2": position(scale(high)), "y1": 5, "y2": 5})
    dot = el("circle", {"cx": x, "cy": 5, "r": 3})
    return el("svg", {"class": "strip", "viewBox": "0 0 96 10", "aria-hidden": "true"}, line, dot)


def _task(task: str, own: float | None) -> Column:
    def value(row: Row) -> float | None:
        return row["scores"][task]["value"] if task in row["scores"] else None

    def show(row: Row) -> Child:
        one = row["scores"][task]
        ratio = None if one["ratio"] is None else el("small", None, f"×{minus(format(one['ratio'], '.2f'))}")
        return estimate(one), ratio

    return Column(f"task:{task}", "task", breakable(task), value, show, own)


def _cost(measure: CostColumn) -> Column:
    def value(row: Row) -> float | None:
        found: float | None = row["cost"].get(measure.key)
        return found

    def show(row: Row) -> Child:
        low, high = row["spread"][measure.key]
        ends = f"median of {row['cells']} cells, {exact(low)} to {exact(high)}"
        return el("span", {"title": ends}, exact(row["cost"][measure.key]))

    return Column(measure.key, "cost", measure.title, value, show, higher=measure.larger_is_better, unit=measure.unit)


def estimate(one: Mapping[str, Any], digits: int = 1) -> Html:
    """A value with its interval; ``e`` marks one that is over episodes only."""
    main = el("b", None, minus(f"{one['value']:.{digits}f}"))
    if one["low"] is None or one["high"] is None:
        return main
    low, high = (minus(f"{one[end]:.{digits}f}") for end in ("low", "high"))
    mark = el("abbr", {"title": "over the episodes of a single seed"}, "e") if one["over"] == "episodes" else None
    return join(main, " ", el("small", None, f"[{low}, {high}]", mark))


def badges(row: Row) -> Html:
    """Trust, and which reference the row was matched to."""
    parts: list[Child] = []
    if row["trust"] == "verified":
        parts.append(el("span", {"class": "badge ok", "title": VERIFIED}, "✓ verified"))
    else:
        some = f", {row['verified_cells']} of {row['cells']} cells verified" if row["verified_cells"] else ""
        parts.append(el("span", {"class": "badge self", "title": SELF_REPORTED + some}, "self-reported"))
    if row["backbone"] in CONTROLS:
        parts.append(el("span", {"class": "badge control", "title": CONTROLS[row["backbone"]]}, "control"))
    if row["matched"]:
        says = "its width was chosen so that it has as many parameters as the reference"
        parts.append(el("span", {"class": "badge match", "title": says}, "matched to ", name(row["matched"])))
    return join([(part, " ") for part in parts])


def _name(row: Row, look: Look | None) -> Html:
    link = el("a", {"href": row_file(row)}, el("bdi", None, breakable(row["label"])))
    lacks = None
    if row["missing"]:
        tasks = ", ".join(row["missing"])
        few = f"lacks {tasks}" if len(row["missing"]) <= 2 else f"lacks {len(row['missing'])} tasks"
        lacks = el("small", {"class": "lacks", "title": tasks}, few)
    label = el("span", {"class": "label"}, look.swatch() if look else None, link)
    return el(
        "th", {"scope": "row", "data-v": row["label"]}, label, el("span", {"class": "badges"}, badges(row)), lacks
    )


def _seeds(row: Row) -> Child:
    return str(len(row["seeds"])) if row["seeds"] else "0"


def _failed(row: Row) -> Child:
    count = len(row["failed"])
    return el("a", {"href": f"{row_file(row)}#failed", "class": "bad"}, f"{count} failed") if count else "0"


def reported_table(section: Mapping[str, Any]) -> Html | None:
    """What others have published, method by task; never in an aggregate with ours."""
    methods: dict[tuple[str, str, str], dict[str, Mapping[str, Any]]] = {}
    for one in section["reported"]:
        key = (one["method"], one["citation"] or "", one["note"] or "")
        methods.setdefault(key, {})[one["task"]] = one
    if not methods:
        return None
    known = {one["task"] for one in section["reported"]}
    tasks = [task for task in section["tasks"] if task in known]
    tasks += sorted(known - set(tasks))
    sources = list(dict.fromkeys((citation, note) for _, citation, note in methods))
    lines = []
    for (method, citation, note), found in methods.items():
        number = sources.index((citation, note)) + 1
        cells = [el("td", None, _published(found[task]) if task in found else NOTHING) for task in tasks]
        lines.append(
            el(
                "tr",
                None,
                el("th", {"scope": "row"}, name(method), " ", el("small", None, f"[{number}]"), " ", REPORTED),
                cells,
            )
        )
    heads = [el("th", {"scope": "col"}, breakable(task)) for task in tasks]
    units = ", ".join(sorted({str(one["unit"]).replace("_", " ") for one in section["reported"]}))
    cited = [el("li", None, cite(citation), f" ({note})" if note else None) for citation, note in sources]
    return join(
        scroll(
            f"Published scores, {units}; ± as published, mostly over seeds",
            el("tr", None, el("th", {"scope": "col"}, "Method"), heads),
            lines,
        ),
        el("ol", {"class": "cited"}, cited),
    )


def _published(one: Mapping[str, Any]) -> Child:
    spread = "" if one["std"] is None else f" ± {one['std']:.1f}"
    return points(one["score"]), el("small", None, spread) if spread else None


def reproduction_table(section: Mapping[str, Any], labels: Mapping[str, str]) -> Html | None:
    """Ours minus what was reported, where source and protocol are the same."""
    if not section["reproduction"]:
        return None
    lines = [
        el(
            "tr",
            None,
            el("th", {"scope": "row"}, name(labels.get(one["row"], one["row"]))),
            el("td", {"class": "left"}, one["task"]),
            el("td", None, estimate({"value": one["ours"], "low": one["low"], "high": one["high"], "over": "seeds"})),
            el("td", None, points(one["reported"])),
            el("td", None, el("b", None, ("+" if one["difference"] > 0 else "") + points(one["difference"]))),
            el("td", {"class": "left"}, name(one["method"]), ", ", cite(one["citation"])),
        )
        for one in section["reproduction"]
    ]
    heads = ("Row", "Task", "Ours", "Reported", "Difference", "Reported as")
    return scroll("Ours minus reported", el("tr", None, [el("th", {"scope": "col"}, head) for head in heads]), lines)


def scroll(caption: str, head: Html, lines: Sequence[Html], kind: str = "plain") -> Html:
    """A table in a box that scrolls by itself."""
    return el(
        "div",
        {"class": "scroll", "tabindex": "0", "role": "region", "aria-label": caption},
        el("table", {"class": kind}, el("caption", None, caption), el("thead", None, head), el("tbody", None, lines)),
    )
