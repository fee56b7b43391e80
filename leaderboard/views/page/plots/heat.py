"""All scores at a glance: a square for each row and task."""

from collections.abc import Sequence

from backbench.leaderboard.views.page.markup import Html, View, el, join
from backbench.leaderboard.views.page.numbers import coordinate, minus
from backbench.leaderboard.views.page.parts import scroll
from backbench.leaderboard.views.page.plots.panel import label, shorten

LEFT, WIDE, HIGH, HEAD = 170, 62, 30, 46  # of the names, of a square, and of the tasks' names
DARKEST = 0.55  # opacity of the best squares: numbers stay readable
WORDS = 3  # lines of a task's name


def heat(section: View, rows: Sequence[View]) -> list[Html]:
    """The picture; nothing for fewer than two rows or tasks, or without a scale. Darker is nearer to a score of 100."""
    tasks = [task for task in section["tasks"] if any(task in row["scores"] for row in rows)]
    if len(rows) < 2 or len(tasks) < 2 or section["normaliser"] == "none":
        return []
    width, height = LEFT + WIDE * len(tasks) + 4, HEAD + HIGH * len(rows) + 4
    parts = [_name(task, LEFT + WIDE * (column + 0.5)) for column, task in enumerate(tasks)]
    for line, row in enumerate(rows):
        y = HEAD + HIGH * line
        parts.append(label(LEFT - 8, y + HIGH / 2 + 4, shorten(row["label"], 22), "tx", "end", row["id"]))
        for column, task in enumerate(tasks):
            if task in row["scores"]:
                parts.append(_square(LEFT + WIDE * column, y, row, task))
    about = f"Score of each row on each task. {'; '.join(map(_said, rows))}"
    attrs = {"class": "plot heat", "viewBox": f"0 0 {width} {height}", "role": "img"}
    picture = el("svg", attrs, el("title", None, "Scores of all tasks"), el("desc", None, about), join(*parts))
    return [scroll("Scores of all tasks, scrolls sideways", picture)]


def _said(row: View) -> str:
    return f"{row['label']}: " + ", ".join(f"{task} {one['value']:.0f}" for task, one in row["scores"].items())


def _name(task: str, x: float) -> Html:
    """A task's name above its column, at most ``WORDS`` lines."""
    words = task.split("-", WORDS - 1)
    first = HEAD - 8 - 11 * (len(words) - 1)
    return join(*(label(x, first + 11 * line, shorten(word, 11), "tk", "middle") for line, word in enumerate(words)))


def _square(x: float, y: float, row: View, task: str) -> Html:
    value = row["scores"][task]["value"]
    place = {"x": coordinate(x + 1), "y": coordinate(y + 1), "width": WIDE - 2, "height": HIGH - 2, "rx": 3}
    share = f"{DARKEST * min(max(value / 100, 0), 1):.3f}"
    title = el("title", None, f"{row['label']}, {task}: {minus(f'{value:.1f}')}")
    attrs = {"class": "hs", "data-row": row["id"], **place}
    return join(
        el("rect", {**attrs, "fill-opacity": share}, title),
        label(x + WIDE / 2, y + HIGH / 2 + 4, minus(f"{value:.0f}"), "tx", "middle", row["id"]),
    )
