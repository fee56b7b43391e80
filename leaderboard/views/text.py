"""A board as text: one table of strings, which the terminal and Markdown both print, so that they agree.
Tasks are the lines and backbones the columns: nine tasks side by side fit no terminal, and a page scrolls down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from backbench.leaderboard.board import columns
from backbench.leaderboard.board.analysis import Improvement, Paired, improvements, paired_differences
from backbench.leaderboard.board.board import Board, Row, Section
from backbench.leaderboard.board.notes import SHORT, notes_of
from backbench.leaderboard.board.reproduction import tabulated
from backbench.leaderboard.board.spread import seed_spread
from backbench.leaderboard.record.suites import ALSO
from backbench.leaderboard.scores.normalise import normalise
from backbench.leaderboard.scores.statistics import Interval
from backbench.text import markdown, plain

NOTHING = "—"
UNKNOWN = "unknown"
BEYOND = " >K"  # marks an answer that needs more steps than the windows of training held
_PAIRS = 12  # rows up to which every pair is printed


@dataclass(frozen=True)
class Cell:
    """One entry: the main text, and what stands below or behind it."""

    main: str
    sub: str = ""


Line = tuple[Cell, ...]


@dataclass(frozen=True)
class TextTable:
    """A table of strings. Every line has as many cells as there are columns; the first cell names the line."""

    title: str
    columns: tuple[str, ...]
    blocks: tuple[tuple[Line, ...], ...]  # Lines in blocks: tasks, aggregates, costs, comparisons of pairs.
    notes: tuple[str, ...]
    repeated: int = 2  # Number of first columns that are repeated when the others are split over several grids.
    reported: TextTable | None = None  # Published scores on the same tasks, separate from ours.


def tabulate(board: Board, published: Board | None = None) -> list[TextTable]:
    """The tables of ``board``, one per section. ``published`` tells how far seeds lie apart, beside a single seed."""
    found = []
    for number, section in enumerate(board.sections, start=1):
        spread = {} if published is None else seed_spread(section, published)
        table = _table(section, number)
        found.append(_beside_spread(table, spread) if spread else table)
    return found


def _beside_spread(table: TextTable, spread: Mapping[str, float]) -> TextTable:
    """``table`` with a column of the standard deviation of a seed's score."""

    def wider(line: Line) -> Line:
        known = spread.get(line[0].main)
        return (*line[:2], Cell("" if known is None else f"±{known:.1f}"), *line[2:])

    note = (
        "±: standard deviation of one seed's score within a row of the committed board. "
        "A smaller difference between single seeds says nothing."
    )
    heads = (*table.columns[:2], "a seed", *table.columns[2:])
    blocks = tuple(tuple(map(wider, block)) for block in table.blocks)
    return replace(table, columns=heads, blocks=blocks, notes=(note, *table.notes), repeated=table.repeated + 1)


def to_markdown(board: Board) -> str:
    """``board`` as GitHub Markdown. Names cannot break the table or add HTML or links."""
    tables = [(table, level) for ours in tabulate(board) for table, level in ((ours, "###"), (ours.reported, "####"))]
    return "\n".join(_marked(table, level) for table, level in tables if table is not None) or "No records.\n"


def to_rich(board: Board, width: int = 100, published: bool = True, beside: Board | None = None) -> Group:
    """``board`` for the terminal; backbones that do not fit into ``width`` characters go below.
    ``published``: whether the scores of papers follow. ``beside``: the committed board, which tells how far seeds lie
    apart."""
    parts: list[Table | Text] = []
    tables = ((ours, ours.reported if published else None) for ours in tabulate(board, beside))
    for table in (table for both in tables for table in both if table):
        parts.append(Text(table.title, style="bold"))
        parts += [_grid(table, chosen) for chosen in _fitting(table, width)]
        parts += [Text(f"- {note}", style="dim") for note in table.notes] + [Text("")]
    return Group(*parts) if parts else Group(Text("No records."))


def _marked(table: TextTable, level: str) -> str:
    rows = [[f"{cell.main} {cell.sub}".strip() for cell in line] for block in table.blocks for line in block]
    head, *body = ["| " + " | ".join(map(markdown, row)) + " |" for row in (table.columns, *rows)]
    ruler = "|:---|" + "---:|" * (len(table.columns) - 1)
    notes = [f"- {markdown(note)}" for note in table.notes]
    return "\n".join([f"{level} {markdown(table.title)}", "", head, ruler, *body, "", *notes]) + "\n"


def _table(section: Section, number: int) -> TextTable:
    setting, rows = section.setting, section.rows
    blocks = [tuple(_task(section, task) for task in section.tasks if task in section.task_settings)]
    if section.complete:
        blocks.append(_aggregates(section))
    blocks += [block for block in (_twins(section), _longer(section)) if block]
    blocks += [_other_scale(section, name) for name in ALSO.get(setting.suite, ()) if name != setting.normaliser]
    lines = {"seeds": [_seeds(row) for row in rows]}
    if setting.tuning:
        for column in columns.TUNING:
            lines[column.label] = [_cost(None if row.tuning is None else column.read(row.tuning)) for row in rows]
    for one in columns.shown(columns.COSTS, "text"):
        if one.required or any(one.key in row.cost for row in rows):
            lines[one.label] = [UNKNOWN if row.unknown(one) else _cost(row.cost.get(one.key)) for row in rows]
    lines |= {"failed cells": [str(row.failed) for row in rows], "machines": [str(row.machines) for row in rows]}
    lines["trust"] = [row.trust for row in rows]
    blocks.append(tuple(_line(name, "", *values) for name, values in lines.items()))
    compared = sum(len(row.matrix) >= 2 for row in rows)
    if pairs := improvements(section, fewest_seeds=2) if compared <= _PAIRS else []:
        blocks.append(_beaten(section, pairs))
    if paired := paired_differences(section) if sum(bool(row.matrix) for row in rows) <= _PAIRS else []:
        blocks.append(_ahead(section, paired))
    return TextTable(
        title=plain(f"{number}. {setting.title}"),
        columns=("task", "data", *(plain(row.label) for row in rows)),
        blocks=tuple(blocks),
        notes=tuple(plain(note) for note in notes_of(section, pairs, paired)),
        reported=_reported(section, number),
    )


def _line(*values: str) -> Line:
    return tuple(map(Cell, values))


def _task(section: Section, task: str) -> Line:
    cells = []
    for score in (row.scores.get(task) for row in section.rows):
        ratio = "" if score is None or score.data_ratio is None else f" ×{score.data_ratio:.2f}"
        cells.append(Cell(f"{score.value:.1f}{ratio}", _interval(score.interval)) if score else Cell(NOTHING))
    return Cell(task), Cell(_points(section.data.get(task))), *cells


def _aggregates(section: Section) -> tuple[Line, ...]:
    lines = []
    for metric in columns.shown(columns.METRICS, "text"):
        data = _points(section.data_aggregates.get(metric.key)) if metric.of_data else ""
        cells = [
            Cell(f"{one.value:.{metric.digits}f}", _interval(one.interval, metric.digits)) if one else Cell(NOTHING)
            for one in (row.aggregates.get(metric.key) for row in section.rows)
        ]
        lines.append((Cell(metric.name), Cell(data), *cells))
    return tuple(lines)


def _longer(section: Section) -> tuple[Line, ...]:
    """Scores on longer episodes; nothing where none were played."""
    found = [{(one.task, one.times, one.acting): one for one in row.longer} for row in section.rows]
    lines = []
    for key in dict.fromkeys(key for one in found for key in one):
        task, times, acting = key
        there = [one.get(key) for one in found]
        cells = [Cell(f"{one.value:.1f}", _interval(one.interval)) if one else Cell(NOTHING) for one in there]
        beyond = BEYOND if any(one.beyond for one in there if one) else ""
        lines.append((Cell(f"{task} x{times}, {acting}{beyond}"), Cell(""), *cells))
    return tuple(lines)


def _twins(section: Section) -> tuple[Line, ...]:
    """What the rows' twins say; nothing where there are none."""
    lines = []
    for column in columns.TWIN if any(row.twin for row in section.rows) else ():
        found = [None if row.twin is None else column.read(row.twin) for row in section.rows]
        cells = [Cell(f"{one.value:+.1f}", _interval(one.interval)) if one else Cell(NOTHING) for one in found]
        lines.append((Cell(column.name), Cell(""), *cells))
    return tuple(lines)


def _beaten(section: Section, pairs: Sequence[Improvement]) -> tuple[Line, ...]:
    """Each row against each other: lines are beaten, columns beat."""
    found = {(pair.x, pair.y): pair for pair in pairs}
    lines = []
    for loser in dict.fromkeys(pair.x for pair in pairs):
        cells = [Cell(f"P(better than {_short(section.rows[loser])})"), Cell("")]
        for pair in (found.get((winner, loser)) for winner in range(len(section.rows))):
            ends = "" if pair is None or pair.low is None else f"({pair.low:.2f}, {pair.high:.2f})"
            cells.append(Cell(NOTHING if pair is None else f"{pair.probability:.2f}", ends))
        lines.append(tuple(cells))
    return tuple(lines)


def _ahead(section: Section, paired: Sequence[Paired]) -> tuple[Line, ...]:
    """Each row minus each other, on the same starts: the column minus the line."""
    found = {(one.x, one.y): one for one in paired}
    lines = []
    for other in dict.fromkeys(one.x for one in paired):
        cells = [Cell(f"difference to {_short(section.rows[other])}"), Cell("")]
        for one in (found.get((row, other)) for row in range(len(section.rows))):
            mark = "s" if one is not None and one.over == "starts" else ""
            ends = "" if one is None or one.low is None else f"({one.low:+.1f}, {one.high:+.1f}){mark}"
            cells.append(Cell(NOTHING if one is None else f"{one.difference:+.1f}", ends))
        lines.append(tuple(cells))
    return tuple(lines)


def _short(row: Row) -> str:
    label = plain(row.label)
    return label if len(label) <= 20 else label[:19] + "…"


def _reported(section: Section, number: int) -> TextTable | None:
    methods, lines, notes = tabulated(section)
    if not methods:
        return None
    title, block = f"{number}. Reported scores on the same tasks", tuple(_line(*line) for line in lines)
    return TextTable(title, ("task", *methods), (block,), tuple(map(plain, notes)), repeated=1)


def _other_scale(section: Section, normaliser: str) -> tuple[Line, ...]:
    """The same scores on another scale, with their mean if it is a normalised one."""
    short = SHORT[normaliser]
    tasks, scores = [task for task in section.tasks if task in section.task_settings], []
    for row in section.rows:
        scores.append({task: normalise(normaliser, task, row.scores[task].raw) for task in tasks if task in row.scores})
    lines = [_line(f"{task}, {short}", "", *(_points(one.get(task)) for one in scores)) for task in tasks]
    if section.complete and normaliser != "none":
        means = [
            # The row's own mean is over the seeds that all tasks have. Raw scores are not, where seeds differ.
            sum(one.values()) / len(one) if row.mean and len({row.scores[task].seeds for task in one}) == 1 else None
            for row, one in zip(section.rows, scores, strict=True)
        ]
        lines.append(_line(f"mean, {short}", "", *map(_points, means)))
    return tuple(lines)


def _interval(interval: Interval | None, digits: int = 1) -> str:
    if interval is None:
        return ""
    mark = "w" if interval.method == "wilson" else "e" if interval.over == "episodes" else ""
    return f"({interval.low:.{digits}f}, {interval.high:.{digits}f}){mark}"


def _points(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f}"


def _cost(value: float | None) -> str:
    """An integer from a hundred on, three digits below."""
    return NOTHING if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _seeds(row: Row) -> str:
    counts = sorted({len(score.seeds) for score in row.scores.values()} or {0})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _fitting(table: TextTable, width: int) -> list[list[int]]:
    """Columns in portions that fit ``width`` together with those that are repeated; at least one each."""

    def needed(column: int) -> int:
        longest = max(max(len(line[column].main), len(line[column].sub)) for block in table.blocks for line in block)
        # Rich puts three spaces between columns and folds long names.
        return 3 + max(longest, min(len(table.columns[column]), 16))

    room = width + 3 - sum(map(needed, range(table.repeated)))
    portions: list[list[int]] = [[]]
    for column in range(table.repeated, len(table.columns)):
        if portions[-1] and sum(map(needed, [*portions[-1], column])) > room:
            portions.append([])
        portions[-1].append(column)
    return portions


def _grid(table: TextTable, chosen: Sequence[int]) -> Table:
    grid = Table(box=box.SIMPLE, pad_edge=False, header_style="bold", show_edge=False)
    shown = (*range(table.repeated), *chosen)
    for index in shown:
        # Text, not str: a name such as "[red]" is a name, not markup.
        name, first = Text(table.columns[index]), index == 0
        grid.add_column(name, justify="left" if first else "right", overflow="fold", no_wrap=index < table.repeated)
    for block in table.blocks:
        for line in block:
            cells = (line[index] for index in shown)
            grid.add_row(*(Text.assemble(one.main, (f"\n{one.sub}" if one.sub else "", "dim")) for one in cells))
        grid.add_section()
    return grid
