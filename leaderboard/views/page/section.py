"""One section of index.html: a table, its plots, and what was published on the same tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backbench.leaderboard.board import columns
from backbench.leaderboard.board.analysis import ALIKE
from backbench.leaderboard.views.page import plots
from backbench.leaderboard.views.page.markup import Child, Html, cite, el, join, name
from backbench.leaderboard.views.page.panel import Look, shorten
from backbench.leaderboard.views.page.scales import number
from backbench.leaderboard.views.page.table import (
    GROUPS,
    main_table,
    ordered,
    reported_table,
    reproduction_table,
    scroll,
)
from backbench.leaderboard.views.page.words import EMBEDDED, EPISODES, protocol

DRAWN = 12
"""Rows in a plot; more lines than that are a tangle."""

View = Mapping[str, Any]


@dataclass(frozen=True)
class Detail:
    """How much of a view goes into index.html."""

    small: bool = True
    """Plots of single tasks."""
    plots: bool = True
    """Plots at all."""
    rows: int | None = None
    """Rows of a section; None for all."""


def section_part(section: View, sections: Sequence[View], detail: Detail) -> Html:
    rows = ordered(section["rows"])
    shown = rows if detail.rows is None else rows[: detail.rows]
    looks = {row["id"]: Look(row["id"], row["label"], index) for index, row in enumerate(rows[:DRAWN])}
    labels = {row["id"]: row["label"] for row in rows}
    cut = (
        f"Only {len(shown)} of {len(rows)} rows are shown; the CSV and JSON views have all."
        if len(shown) < len(rows)
        else None
    )
    heading = f"{section['id']}-title"
    return el(
        "section",
        {"class": "section", "id": section["id"], "aria-labelledby": heading},
        el("h2", {"id": heading, "tabindex": "-1"}, name(section["title"])),
        el(
            "p",
            {"class": "sub"},
            (
                f"Protocol: {protocol(section)}; last checkpoint, first target return, mean over seeds. Points: ",
                cite(section["citation"] or str(section["normaliser"])),
                ". × is the score over the data set’s own mean.",
            ),
        ),
        el("p", {"class": "warn"}, EMBEDDED) if section["source"] == "embedded" else None,
        _apart(section, sections),
        el("p", {"class": "warn"}, EPISODES) if _over_episodes(rows) else None,
        _controls(section),
        el("p", {"class": "warn"}, cut) if cut else None,
        main_table(section, shown, looks),
        _notes(section["notes"]),
        _plots(section, rows[:DRAWN], len(rows), looks, detail)
        if detail.plots
        else el("p", {"class": "warn"}, "No plots: the page would be too large. The rows' pages have theirs."),
        el("h3", None, "Published numbers"),
        _published(section, labels),
        _details(section),
    )


def _notes(notes: Sequence[str]) -> Html | None:
    if not notes:
        return None
    listed = el("ul", {"class": "notes"}, [el("li", None, name(note)) for note in notes])
    if len(notes) <= 5:
        return listed
    return el("details", None, el("summary", None, f"{len(notes)} notes on these records"), listed)


def _over_episodes(rows: Sequence[View]) -> bool:
    return any(score["over"] == "episodes" for row in rows for score in row["scores"].values())


def _apart(section: View, sections: Sequence[View]) -> Html | None:
    if not section["apart"]:
        return None
    nearest = section["apart_from"]
    other: Child = None
    if nearest is not None and 0 <= nearest < len(sections):
        other = el("a", {"href": f"#{sections[nearest]['id']}"}, name(sections[nearest]["title"]))
    reasons = el("ul", None, [el("li", None, name(reason)) for reason in section["apart"]])
    return el(
        "div",
        {"class": "apart"},
        el("p", None, el("b", None, "Stands apart"), " from ", other or "the first table", ":"),
        reasons,
    )


def _controls(section: View) -> Html:
    field = f"{section['id']}-filter"
    boxes = [
        el(
            "label",
            None,
            el("input", {"type": "checkbox", "data-group": group, "checked": True}),
            el("span", None, title.split(",")[0]),
        )
        for group, title in GROUPS.items()
    ]
    return el(
        "div",
        {"class": "controls js-only"},
        el(
            "p",
            None,
            el("label", {"for": field}, "Filter rows"),
            " ",
            el(
                "input",
                {
                    "type": "search",
                    "id": field,
                    "class": "filter",
                    "autocomplete": "off",
                    "placeholder": "part of a name",
                },
            ),
            " ",
            el("output", {"for": field, "aria-live": "polite"}),
        ),
        el("fieldset", None, el("legend", None, "Columns"), el("div", {"class": "choices"}, boxes)),
    )


def _plots(section: View, rows: Sequence[View], total: int, looks: Mapping[str, Look], detail: Detail) -> Html | None:
    """Every plot of the section, with one legend for all."""
    groups: list[tuple[str, str, list[Html], str]] = [
        (
            "Aggregates",
            "Point and 95 % interval. Where intervals overlap, the order of the rows says little.",
            plots.aggregates(rows, looks),
            "four",
        ),
        (
            "Profiles and improvement",
            "First: how many runs score above a threshold, with pointwise 95 % bands. Then: how often a run of one row "
            "beats one of another on the same task; an interval that crosses one half decides nothing. "
            + _decided(section),
            [*plots.profiles(rows, looks), *plots.improvement(section, looks)],
            "wide",
        ),
        (
            "Score and cost",
            f"By point estimates: ringed rows are beaten by no other row in both IQM and that cost. {_noise(section)}"
            + section["measured"],
            plots.pareto(section, rows, looks),
            "four",
        ),
    ]
    if detail.small:
        groups += [
            (
                "Learning curves",
                "Training loss, mean over seeds, without the first twentieth of the updates.",
                plots.curves(section, rows, looks),
                "",
            ),
            (
                "Score during training",
                "Evaluations on the way, mean over seeds.",
                plots.evaluations(section, rows, looks),
                "",
            ),
            (
                "Return against target return",
                "Mean return for each return that was asked for. On the dashed diagonal both are equal.",
                plots.targets(section, rows, looks),
                "",
            ),
        ]
    found = [group for group in groups if group[2]]
    if not found:
        return None
    legend = el(
        "ul",
        {"class": "key", "aria-label": "Rows in the plots"},
        [el("li", {"data-row": row["id"]}, looks[row["id"]].swatch(), " ", name(row["label"])) for row in rows],
    )
    more = f"The first {len(rows)} of {total} rows by IQM are drawn." if total > len(rows) else None
    every = plots.every_pair(section, looks)
    fewer = None if every else f"Of more than {plots.PAIRS} pairs only those of the first row are drawn."
    small = None if detail.small else "Plots of single tasks are on the rows' pages: here they would be too many."
    unfit = (
        None
        if plots.aggregates(rows, looks)
        else "No row has every task with a common seed, so there are no aggregates."
    )
    return el(
        "div",
        {"class": "plots"},
        el("h3", None, "Plots"),
        legend,
        [el("p", None, says) for says in (more, fewer, small, unfit) if says],
        [
            el(
                "section",
                {"class": "figure", "aria-label": title},
                el("h4", None, title),
                el("p", None, says),
                el("div", {"class": f"panels {kind}".strip()}, panels),
            )
            for title, says, panels, kind in found
        ],
    )


def _decided(section: View) -> str:
    """Which pairs the plot of improvement decides, and how many it does not."""
    labels = {row["id"]: shorten(row["label"], 24) for row in section["rows"]}
    better: dict[str, list[str]] = {}
    for one in section["improvement"]:
        if one["decided"]:
            better.setdefault(labels[one["x"]], []).append(labels[one["y"]])
    count = len(section["improvement"]) // 2
    open_ = count - sum(map(len, better.values()))
    said = "; ".join(f"{x} over {', '.join(ys)}" for x, ys in better.items()) if len(better) <= plots.PAIRS else ""
    return (
        f"Above it, at 95 % each: {said}. " if said else ""
    ) + f"Undecided: {open_} of {count} pairs; no correction is made for their number."


def _noise(section: View) -> str:
    """Which costs have no front, and why."""
    names = [
        measure.name for measure in columns.shown(columns.COSTS, "page") if measure.key in section["undecided_costs"]
    ]
    return f"There are none for {', '.join(names)}: rows differ by less than {ALIKE:.0%}. " if names else ""


def _published(section: View, labels: Mapping[str, str]) -> Html:
    table = reported_table(section)
    reproduced = reproduction_table(section, labels)
    if table is None and reproduced is None:
        return el("p", None, "Nothing that was published is on these tasks and this scale.")
    why = next((note for note in section["notes"] if "reported" in note), None) or (
        "There is no difference of ours minus reported here: source or protocol are not those of the published numbers."
    )
    return join(
        el("p", None, "Not ours: reported by others, with their data and protocols; never in an aggregate with ours."),
        table,
        el("h4", None, "Reproduction"),
        reproduced or el("p", None, name(why)),
    )


def _details(section: View) -> Html:
    heads = (
        "Task",
        "Environment",
        "K",
        "Target returns",
        "Longest episode",
        "Returns-to-go",
        "Data mean",
        "Data sha256",
    )
    lines = [
        el(
            "tr",
            None,
            el("th", {"scope": "row"}, task),
            el("td", {"class": "left"}, one["environment"]),
            el("td", None, str(one["context"])),
            el("td", None, ", ".join(f"{target:g}" for target in one["targets"])),
            el("td", None, number(one["max_steps"])),
            el("td", {"class": "left"}, one["returns_to_go"]),
            el("td", None, f"{section['data'][task]:.1f}" if task in section["data"] else "—"),
            el("td", {"class": "left"}, el("code", None, one["data_sha256"] or "unknown")),
        )
        for task, one in section["task_settings"].items()
    ]
    table = scroll("Per task", el("tr", None, [el("th", {"scope": "col"}, head) for head in heads]), lines)
    versions = ", ".join(f"{package} {version}" for package, version in sorted((section["versions"] or {}).items()))
    return el(
        "details",
        None,
        el("summary", None, "Protocol, data and versions"),
        el("p", None, f"Versions that every row shares: {versions}.") if versions else None,
        table,
    )
