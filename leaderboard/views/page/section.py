"""One section of index.html: a table, its plots, and published scores for the same tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backbench.leaderboard.views.page import words
from backbench.leaderboard.views.page.figures import figures
from backbench.leaderboard.views.page.markup import Child, Html, View, cite, el, join, name
from backbench.leaderboard.views.page.numbers import NOTHING, short
from backbench.leaderboard.views.page.parts import choice, fold, grid, warning
from backbench.leaderboard.views.page.plots.panel import Style
from backbench.leaderboard.views.page.published import published
from backbench.leaderboard.views.page.table import GROUPS, main_table, ordered

DRAWN = 12  # most rows in a plot


@dataclass(frozen=True)
class Detail:
    """How much of a view index.html shows."""

    single_tasks: bool = True  # plots of single tasks
    plots: bool = True  # any plots
    rows: int | None = None  # rows of a section; None for all


def section_part(section: View, sections: Sequence[View], detail: Detail) -> Html:
    """``section`` of ``sections``. Scores come first, and every explanation is folded."""
    rows = ordered(section["rows"])
    shown = rows if detail.rows is None else rows[: detail.rows]
    styles = {row["id"]: Style(row["id"], row["label"], index) for index, row in enumerate(rows[:DRAWN])}
    fewer = f"Only {len(shown)} of {len(rows)} rows are shown. The CSV and JSON views have all."
    heading = f"{section['id']}-title"
    return el(
        "section",
        {"class": "section", "id": section["id"], "aria-labelledby": heading},
        el("h2", {"id": heading, "tabindex": "-1"}, name(section["title"])),
        warning(words.GENERATED) if section["source"] == "embedded" else None,
        warning(words.ONE_SEED) if _over_episodes(rows) else None,
        warning(fewer) if len(shown) < len(rows) else None,
        _controls(section),
        main_table(section, shown, styles),
        _apart(section, sections),
        _notes(section["notes"]),
        _protocol(section, rows),
        figures(section, rows, styles, single_tasks=detail.single_tasks)
        if detail.plots
        else warning("No plots: the page would be too large. Each row's page has its own."),
        el("h3", None, "Published scores"),
        published(section, {row["id"]: row["label"] for row in rows}),
    )


def _over_episodes(rows: Sequence[View]) -> bool:
    return any(one["over"] == "episodes" for row in rows for one in row["scores"].values())


def _controls(section: View) -> Html:
    """A filter for rows and a choice of columns, for the script."""
    field = f"{section['id']}-filter"
    attrs = {"type": "search", "id": field, "class": "filter", "autocomplete": "off", "placeholder": "part of a name"}
    rows = el("label", {"for": field}, "Filter rows"), " ", el("input", attrs), " "
    count = el("output", {"for": field, "aria-live": "polite"})
    box = {"type": "checkbox", "checked": True}
    choices = [choice(title.split(",")[0], {**box, "data-group": group}) for group, title in GROUPS.items()]
    columns = el("fieldset", None, el("legend", None, "Columns"), el("div", {"class": "choices"}, choices))
    return el("div", {"class": "controls js-only"}, el("p", None, rows, count), columns)


def _apart(section: View, sections: Sequence[View]) -> Html | None:
    """Why the section is a table of its own."""
    if not section["apart"]:
        return None
    nearest = section["apart_from"]
    other: Child = "the first table"
    if nearest is not None and 0 <= nearest < len(sections):
        other = el("a", {"href": f"#{sections[nearest]['id']}"}, name(sections[nearest]["title"]))
    reasons = el("ul", None, [el("li", None, name(reason)) for reason in section["apart"]])
    return fold("Why this is a separate table", el("p", None, "It differs from ", other, " in:"), reasons)


def _notes(notes: Sequence[str]) -> Html | None:
    if not notes:
        return None
    listed = el("ul", {"class": "notes"}, [el("li", None, name(note)) for note in notes])
    return fold(f"{len(notes)} note{'' if len(notes) == 1 else 's'} on these records", listed)


def _protocol(section: View, rows: Sequence[View]) -> Html:
    """How the rows were evaluated, on which data, and with which versions."""
    lines = [
        (
            task,
            one["environment"],
            str(one["context"]),
            ", ".join(f"{target:g}" for target in one["targets"]),
            short(one["max_steps"]),
            one["returns_to_go"],
            f"{section['data'][task]:.1f}" if task in section["data"] else NOTHING,
            el("code", None, one["data_sha256"] or "unknown"),
        )
        for task, one in section["task_settings"].items()
    ]
    heads = ("Task", "Environment", "K", "Target returns", "Longest episode", "Returns-to-go", "Data mean",
             "Data sha256")  # fmt: skip
    versions = ", ".join(f"{package} {version}" for package, version in sorted((section["versions"] or {}).items()))
    scale = cite(section["citation"] or str(section["normaliser"]))
    says: list[Child] = [
        f"Protocol: {words.protocol(section)}.",
        "Scores are of the last checkpoint and the first target return, as a mean over seeds.",
        join("Scale: ", scale, ". × is the score divided by the data set’s own mean."),
        words.EMBEDDED if section["source"] == "embedded" else None,
        words.EPISODES if _over_episodes(rows) else None,
        f"Versions that every row shares: {versions}." if versions else None,
    ]
    prose = [el("p", None, one) for one in says if one]
    return fold("Protocol, data and versions", prose, grid("Per task", heads, lines, left=(1, 5, 7)))
