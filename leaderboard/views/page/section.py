"""One section of index.html: a table, its plots, and published scores for the same tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backbench.leaderboard.views.page.figures import figures
from backbench.leaderboard.views.page.markup import Child, Html, View, cite, el, join, name
from backbench.leaderboard.views.page.numbers import NOTHING, short
from backbench.leaderboard.views.page.parts import choice, fold, grid, protocol, warning
from backbench.leaderboard.views.page.plots.panel import Style
from backbench.leaderboard.views.page.published import published
from backbench.leaderboard.views.page.table import GROUPS, main_table, ordered
from backbench.text import count

DRAWN = 12  # most rows in a plot
EMBEDDED = (
    "Small policies generated these data. They are not the published data sets of the same names. No score here "
    "compares with a paper."
)
EPISODES = (
    "An interval marked e is over the evaluation episodes of a single seed. It does not include the noise of training, "
    "which is usually larger."
)


@dataclass(frozen=True)
class Detail:
    """How much of a view index.html shows."""

    single_tasks: bool = True  # plots of single tasks
    plots: bool = True  # any plots
    rows: int | None = None  # rows of a section; None for all


def section_part(section: View, sections: Sequence[View], detail: Detail) -> Html:
    """``section`` of ``sections``. Scores come first, and every explanation is folded."""
    rows = ordered(section["rows"])
    shown = rows[: detail.rows]
    styles = {row["id"]: Style(row["id"], row["label"], index) for index, row in enumerate(rows[:DRAWN])}
    generated = section["source"] == "embedded"
    over_episodes = any(one["over"] == "episodes" for row in rows for one in row["scores"].values())
    warnings = {
        "Generated data: do not compare with papers.": generated,
        "One seed only: do not rank these rows.": over_episodes,
        f"Only {len(shown)} of {len(rows)} rows are shown. The CSV and JSON views have all.": len(shown) < len(rows),
    }
    plots = figures(section, rows, styles, single_tasks=detail.single_tasks) if detail.plots else None
    instead = "No plots: the page would be too large. Each row's page has its own."
    notes, heading = section["notes"], f"{section['id']}-title"
    listed = el("ul", {"class": "notes"}, [el("li", None, name(note)) for note in notes])
    return el(
        "section",
        {"class": "section", "id": section["id"], "aria-labelledby": heading},
        el("h2", {"id": heading, "tabindex": "-1"}, name(section["title"])),
        [warning(says) for says, holds in warnings.items() if holds],
        _controls(section),
        main_table(section, shown, styles),
        _apart(section, sections),
        fold(f"{count(len(notes), 'note')} on these records", listed) if notes else None,
        _protocol(section, EMBEDDED if generated else None, EPISODES if over_episodes else None),
        plots if detail.plots else warning(instead),
        el("h3", None, "Published scores"),
        published(section, {row["id"]: row["label"] for row in rows}),
    )


def _controls(section: View) -> Html:
    """A filter for rows and a choice of columns, for the script."""
    field = f"{section['id']}-filter"
    attrs = {"type": "search", "id": field, "class": "filter", "autocomplete": "off", "placeholder": "part of a name"}
    rows = el("label", {"for": field}, "Filter rows"), " ", el("input", attrs), " "
    found = el("output", {"for": field, "aria-live": "polite"})
    box = {"type": "checkbox", "checked": True}
    choices = [choice(title.split(",")[0], {**box, "data-group": group}) for group, title in GROUPS.items()]
    columns = el("fieldset", None, el("legend", None, "Columns"), el("div", {"class": "choices"}, choices))
    return el("div", {"class": "controls js-only"}, el("p", None, rows, found), columns)


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


def _protocol(section: View, *remarks: str | None) -> Html:
    """How the rows were evaluated, on which data, and with which versions."""
    lines: list[Sequence[Child]] = []
    for task, one in section["task_settings"].items():
        targets = ", ".join(f"{target:g}" for target in one["targets"])
        mean = f"{section['data'][task]:.1f}" if task in section["data"] else NOTHING
        digest = el("code", None, one["data_sha256"] or "unknown")
        evaluated = targets, short(one["max_steps"]), one["returns_to_go"]
        lines.append((task, one["environment"], str(one["context"]), *evaluated, mean, digest))
    heads = ("Task", "Environment", "K", "Target returns", "Longest episode", "Returns-to-go", "Data mean",
             "Data sha256")  # fmt: skip
    versions = ", ".join(f"{package} {version}" for package, version in sorted((section["versions"] or {}).items()))
    scale = cite(section["citation"] or str(section["normaliser"]))
    says = [
        f"Protocol: {protocol(section)}.",
        "Scores are of the last checkpoint and the first target return, as a mean over seeds.",
        join("Scale: ", scale, ". × is the score divided by the data set’s own mean."),
        *remarks,
        f"Versions that every row shares: {versions}." if versions else None,
    ]
    prose = [el("p", None, one) for one in says if one]
    return fold("Protocol, data and versions", prose, grid("Per task", heads, lines, left=(1, 5, 7)))
