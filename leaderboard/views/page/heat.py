"""All scores at a glance: a table with a shade for each score."""

from collections import Counter
from collections.abc import Mapping, Sequence

from backbench.leaderboard.board.analysis import SURE
from backbench.leaderboard.views.page.markup import Html, View, breakable, el, name
from backbench.leaderboard.views.page.numbers import score
from backbench.leaderboard.views.page.parts import figure, fold, grid, scroll
from backbench.leaderboard.views.page.table import ordered

SHADES = 10  # of a score of 100
SURENESS = f"At {SURE:.0%} after Bonferroni’s correction, Welch’s t over seeds"
LISTED = 40  # of more decided pairs there is a table of counts


def at_a_glance(section: View, rows: Sequence[View]) -> Html | None:
    """The table under its title, with the pairs that differ; None where there is no table."""
    says = "Scores, darker towards 100. The table above has the intervals."
    return figure("Rows by tasks", heat(section, rows), says, _decided_tasks(section), kind="whole", level="h3")


def heat(section: View, rows: Sequence[View]) -> list[Html]:
    """The table; nothing for fewer than two rows or tasks, or without a scale. Darker is nearer to a score of 100."""
    tasks = [task for task in section["tasks"] if any(task in row["scores"] for row in rows)]
    if len(rows) < 2 or len(tasks) < 2 or section["normaliser"] == "none":
        return []
    heads = [el("th", {"scope": "col"}, breakable(task)) for task in tasks]
    lines = [el("tr", {"data-row": row["id"]}, _label(row), [_cell(row, task) for task in tasks]) for row in rows]
    caption = el("caption", {"class": "unseen"}, "Scores of all tasks")
    table = el(
        "table",
        {"class": "heat"},
        caption,
        el("thead", None, el("tr", None, el("td"), heads)),
        el("tbody", {"class": "rows"}, lines),
    )
    return [scroll("Scores of all tasks, scrolls sideways", table)]


def _label(row: View) -> Html:
    return el("th", {"scope": "row"}, name(row["label"]))


def _cell(row: View, task: str) -> Html:
    if task not in row["scores"]:
        return el("td")
    value = row["scores"][task]["value"]
    shade = round(SHADES * min(max(value / 100, 0), 1))
    return el("td", {"class": f"s{shade}" if shade else None}, score(value, 0))


def _decided_tasks(section: View) -> Html | None:
    """The pairs of rows that differ on a single task beyond doubt."""
    labels = {row["id"]: row["label"] for row in ordered(section["rows"])}
    if len(section["decided"]) > LISTED:
        return _counted(section, labels)
    lines = [
        (one["task"], name(labels[one["better"]]), name(labels[one["worse"]]), f"{one['low']:.0f} to {one['high']:.0f}")
        for one in section["decided"]
    ]
    if not lines:
        return None
    return _fold(section, grid(SURENESS, ("Task", "Higher", "Lower", "Difference"), lines, left=(1, 2)))


def _counted(section: View, labels: Mapping[str, str]) -> Html:
    """How many rows each one is above and below, by task."""
    above = Counter((one["better"], one["task"]) for one in section["decided"])
    below = Counter((one["worse"], one["task"]) for one in section["decided"])
    tasks = [task for task in section["tasks"] if any(one["task"] == task for one in section["decided"])]
    lines = [
        (name(label), *(f"{above[row, task]} / {below[row, task]}" for task in tasks)) for row, label in labels.items()
    ]
    says = el("p", None, "Each entry: rows that this one is above / rows that it is below. board.json has the pairs.")
    return _fold(section, says, grid(SURENESS, ["Row", *map(breakable, tasks)], lines))


def _fold(section: View, *content: Html) -> Html:
    title = f"{len(section['decided'])} of {section['decided_of']} pairs are decided on single tasks"
    return fold(title, *content)
