"""A board as text: one table of strings, which the terminal and Markdown both print, so that they cannot disagree.

Tasks are the lines and backbones the columns: nine tasks side by side fit no terminal, and a page scrolls down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from backbench.leaderboard.board import Board, Row, Score, Section
from backbench.leaderboard.normalise import CITATIONS, normalise
from backbench.leaderboard.statistics import COVERAGE, Estimate, Interval
from backbench.leaderboard.suites import ALSO

NOTHING = "—"
SHORT = {"none": "raw", "atari-human": "human", "dt-gamer": "gamer", "d4rl": "D4RL", "declared": "declared"}
_BOX = box.SIMPLE


@dataclass(frozen=True)
class Cell:
    """One entry: what is read first, and what stands below or behind it."""

    main: str
    sub: str = ""


@dataclass(frozen=True)
class TextTable:
    """A table of strings. Every line has as many cells as there are columns; the first one names the line."""

    title: str
    columns: tuple[str, ...]
    blocks: tuple[tuple[tuple[Cell, ...], ...], ...]
    """Lines in blocks: tasks, aggregates, costs."""
    notes: tuple[str, ...]


def tabulate(board: Board) -> list[TextTable]:
    """The tables of ``board``, one per section."""
    return [_table(section, number) for number, section in enumerate(board.sections, start=1)]


def to_markdown(board: Board) -> str:
    """``board`` as GitHub Markdown. Names cannot break the table or bring HTML or links in."""
    parts = []
    for table in tabulate(board):
        lines = [f"### {_escape(table.title)}", ""]
        lines.append("| " + " | ".join(_escape(name) for name in table.columns) + " |")
        lines.append("|" + "|".join([":---", *["---:"] * (len(table.columns) - 1)]) + "|")
        for block in table.blocks:
            for line in block:
                cells = [_escape(f"{cell.main} {cell.sub}".strip()) for cell in line]
                lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
        lines += [f"- {_escape(note)}" for note in table.notes]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts) if parts else "No records.\n"


def to_rich(board: Board, width: int = 100) -> Group:
    """``board`` for the terminal; backbones that do not fit beside each other in ``width`` columns go below."""
    parts: list[Table | Text] = []
    for table in tabulate(board):
        parts.append(Text(table.title, style="bold"))
        for columns in _fitting(table, width):
            parts.append(_grid(table, columns))
        parts += [Text(f"- {note}", style="dim") for note in table.notes]
        parts.append(Text(""))
    return Group(*parts) if parts else Group(Text("No records."))


def _table(section: Section, number: int) -> TextTable:
    setting = section.setting
    rows = section.rows
    tasks = [
        (
            Cell(task),
            Cell(_points(section.data.get(task))),
            *(_score(row.scores.get(task)) for row in rows),
        )
        for task in section.tasks
        if task in section.task_settings  # a task that nobody ran is named below, not a line of dashes
    ]
    blocks: list[tuple[tuple[Cell, ...], ...]] = [tuple(tasks)]
    if section.complete:
        blocks.append(
            (
                (Cell("mean"), Cell(_points(section.data_mean)), *(_estimate(row.mean) for row in rows)),
                (Cell("IQM"), Cell(_points(section.data_iqm)), *(_estimate(row.iqm) for row in rows)),
            )
        )
    blocks += [_other_scale(section, name) for name in ALSO.get(setting.suite, ()) if name != setting.normaliser]
    costs = [
        ("seeds", [_seeds(row) for row in rows]),
        ("parameters", [_count(row.parameters) for row in rows]),
        ("train tokens/s", [_count(row.train_tokens_per_s) for row in rows]),
        ("decision p50, ms", [NOTHING if row.decision_ms is None else f"{row.decision_ms:.3g}" for row in rows]),
        ("failed cells", [str(row.failed) for row in rows]),
    ]
    blocks.append(tuple((Cell(name), Cell(""), *map(Cell, values)) for name, values in costs))
    return TextTable(
        title=_plain(
            f"{number}. {setting.suite}, data {setting.source}, preset {setting.preset}, acting {setting.acting}"
        ),
        columns=("task", "data", *(_plain(row.label) for row in rows)),
        blocks=tuple(blocks),
        notes=tuple(_plain(note) for note in _notes(section)),
    )


def _other_scale(section: Section, normaliser: str) -> tuple[tuple[Cell, ...], ...]:
    """The same scores on another scale; where it is a normalised one, their mean too."""
    short = SHORT[normaliser]
    tasks = [task for task in section.tasks if task in section.task_settings]
    scores = [
        {task: normalise(normaliser, task, row.scores[task].raw) for task in tasks if task in row.scores}
        for row in section.rows
    ]
    lines = [(Cell(f"{task}, {short}"), Cell(""), *(Cell(_points(one.get(task))) for one in scores)) for task in tasks]
    if section.complete and normaliser != "none":
        means = [
            # Where tasks have other seeds, the row's own mean is over those that all have; raw scores are not.
            sum(one.values()) / len(one) if row.mean and len({row.scores[task].seeds for task in one}) == 1 else None
            for row, one in zip(section.rows, scores, strict=True)
        ]
        lines.append((Cell(f"mean, {short}"), Cell(""), *(Cell(_points(value)) for value in means)))
    return tuple(lines)


def _notes(section: Section) -> list[str]:
    setting, settings = section.setting, section.task_settings
    notes = []
    if section.apart:
        notes.append(f"Not compared with table {section.apart_from + 1}: {'; '.join(section.apart)}.")
    notes.append(
        f"Score: {CITATIONS[setting.normaliser]}; last checkpoint, first target return; mean over seeds. "
        "× is the score over the data set's own mean return (column data), normalised likewise."
    )
    also = [name for name in ALSO.get(setting.suite, ()) if name != setting.normaliser]
    if also:
        notes.append("Also: " + "; ".join(f"{SHORT[name]}: {CITATIONS[name]}" for name in also) + ".")
    if setting.normaliser == "declared":
        pairs = [f"{one.reference[0]:g} and {one.reference[1]:g}" for one in settings.values()]
        notes.append(f"Returns that score 0 and 100: {_per_task(section, pairs)}.")
    notes.append(
        f"Protocol: {setting.acting} acting, {setting.sampling}, {setting.episodes} episodes per target, evaluation "
        f"seed {setting.eval_seed}; K {_per_task(section, [str(one.context) for one in settings.values()])}; first "
        f"target {_per_task(section, [f'{one.targets[0]:g}' for one in settings.values()])}."
    )
    notes.append(
        f"Data: source {setting.source}, preset {setting.preset}; sha256 "
        + ", ".join(f"{task} {(one.data_sha256 or 'unknown')[:8]}" for task, one in settings.items())
        + "."
    )
    notes += _interval_notes(section.rows)
    notes += [f"{note}." for note in section.notes]
    notes += [f"Failed: {cell.label}, {cell.task}, seed {cell.seed}: {cell.reason}" for cell in section.failed]
    return notes


def _interval_notes(rows: Sequence[Row]) -> list[str]:
    found = [one for row in rows for score in row.scores.values() if (one := score.interval) is not None]
    found += [each.interval for row in rows for each in (row.mean, row.iqm) if each is not None and each.interval]
    notes = []
    if any(one.over == "seeds" for one in found):
        fewest = min(one.n for one in found if one.over == "seeds")
        covered = ", ".join(f"{share:.2f} with {seeds}" for seeds, share in COVERAGE.items())
        notes.append(
            f"(low, high): 95 % bootstrap interval over seeds, drawn within each task. With few seeds it is too "
            f"narrow: it holds the true mean with probability {covered} seeds. Fewest here: {fewest}."
        )
    if any(one.over == "episodes" for one in found):
        notes.append(
            "(low, high)e: one seed only. The interval is over its evaluation episodes; it says nothing about the "
            "noise of training, which is usually larger. Rank nothing by it."
        )
    return notes


def _score(score: Score | None) -> Cell:
    if score is None:
        return Cell(NOTHING)
    ratio = "" if score.data_ratio is None else f" ×{score.data_ratio:.2f}"
    return Cell(f"{score.value:.1f}{ratio}", _interval(score.interval))


def _estimate(estimate: Estimate | None) -> Cell:
    return Cell(NOTHING) if estimate is None else Cell(f"{estimate.value:.1f}", _interval(estimate.interval))


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f"({interval.low:.1f}, {interval.high:.1f})" + ("e" if interval.over == "episodes" else "")


def _points(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f}"


def _count(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.0f}"


def _seeds(row: Row) -> str:
    counts = sorted({len(score.seeds) for score in row.scores.values()})
    if not counts:
        return "0"
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _per_task(section: Section, values: Sequence[str]) -> str:
    """One value where all tasks agree, otherwise one per task, tasks of equal value together."""
    if len(set(values)) == 1:
        return values[0]
    together: dict[str, list[str]] = {}
    for task, value in zip(section.task_settings, values, strict=True):
        together.setdefault(value, []).append(task)
    return ", ".join(f"{value} ({_common(tasks)})" for value, tasks in together.items())


def _common(tasks: Sequence[str]) -> str:
    environments = {task.partition("-")[0] for task in tasks}
    return f"{environments.pop()}" if len(environments) == 1 and len(tasks) > 1 else ", ".join(tasks)


def _fitting(table: TextTable, width: int) -> list[list[int]]:
    """Columns after ``data`` in portions that fit ``width`` together with the first two; at least one each."""

    def needed(column: int) -> int:
        longest = max(max(len(line[column].main), len(line[column].sub)) for block in table.blocks for line in block)
        return 2 + max(longest, min(len(table.columns[column]), 16))  # long names are folded

    room = width - needed(0) - needed(1)
    portions: list[list[int]] = [[]]
    for column in range(2, len(table.columns)):
        if portions[-1] and sum(map(needed, [*portions[-1], column])) > room:
            portions.append([])
        portions[-1].append(column)
    return portions


def _grid(table: TextTable, columns: Sequence[int]) -> Table:
    grid = Table(box=_BOX, pad_edge=False, header_style="bold", show_edge=False)
    for index in (0, 1, *columns):
        # Text, not str: a name such as "[red]" is a name, not markup.
        grid.add_column(
            Text(table.columns[index]), justify="left" if index == 0 else "right", overflow="fold", no_wrap=index < 2
        )
    for block in table.blocks:
        for number, line in enumerate(block):
            texts = []
            for index in (0, 1, *columns):
                text = Text(line[index].main)
                if line[index].sub:
                    text.append("\n" + line[index].sub, style="dim")
                texts.append(text)
            grid.add_row(*texts, end_section=number == len(block) - 1)
    return grid


def _plain(text: str) -> str:
    """One line without control characters, which could move a terminal's cursor."""
    return "".join(letter if letter.isprintable() else " " for letter in " ".join(text.split()))


def _escape(text: str) -> str:
    for sign, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, entity)
    return "".join("\\" + letter if letter in "\\`*_[]|#" else letter for letter in text)
