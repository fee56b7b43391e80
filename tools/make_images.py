"""Draw the pictures of the committed board for the README, in a light and in a dark version.

Run ``PYTHONPATH=src python tools/make_images.py`` after ``make leaderboard``. It needs no torch.
Equal records give equal bytes. A test compares the files with a fresh drawing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from backbench.leaderboard.record.files import load_records
from backbench.leaderboard.views.export import pages_of
from backbench.leaderboard.views.page.numbers import short
from backbench.leaderboard.views.page.plots.scales import Scale, axis

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "leaderboard" / "published" / "records"
IMAGES = ROOT / "docs" / "images"
SECTION = "d4rl-embedded-quick-window"
MEMORY = "memory-embedded-quick-recurrent"  # begins the name of the tuned table
# What a memory task asks for -> its tasks.
NEEDS = {
    "retention": ("tmaze-24", "tmaze-96", "tmaze-256"), "delay": ("repeat-4", "repeat-16"),
    "capacity": ("copy-12", "copy-32"), "addressing": ("recall-8", "recall-32"), "tracking": ("parity",),
    "counting": ("count",),
}  # fmt: skip
SQUARE, GAP, LINE, LEFT, HEAD = 56, 18, 34, 120, 100  # of the picture of tasks
DARKEST = 0.6  # opacity of a score of 100
WIDTH, HEIGHT, TOP, BOTTOM = 880, 292, 70, 238
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Palette:
    """Colours of one version: text, secondary text, grid lines, and one colour for each row."""

    ink: str
    soft: str
    grid: str
    rows: tuple[str, ...]


# The rows' colours are those of the leaderboard's pages.
PALETTES = {
    "light": Palette(
        "#1b1f24", "#565d66", "#dcd9d1", ("#0072b2", "#d55e00", "#00855f", "#a8478a", "#3a3f45", "#9500ff")
    ),
    "dark": Palette(
        "#e9ebee", "#a9b1bb", "#363c45", ("#56b4e9", "#f58a42", "#2cc796", "#e79ac9", "#e4e6e9", "#8a44fb")
    ),
}


def sections(records: Path = RECORDS) -> list[Mapping[str, Any]]:
    """The tables of a board, as ``board.json`` has them. ``RecordError`` if a record is broken."""
    found, errors = load_records(records)
    if errors:
        raise errors[0]
    made: list[Mapping[str, Any]] = json.loads(pages_of(found)["board.json"])["sections"]
    return made


def draw_tasks(board: Mapping[str, Any], palette: Palette) -> str:
    """The scores on the memory tasks as SVG: a line for each backbone, a square for each task, best mean first."""
    rows = sorted(board["rows"], key=lambda row: -sum(one["value"] for one in row["scores"].values()))
    width, height = LEFT + _column("count") + SQUARE + 20, HEAD + LINE * len(rows) + 12
    fewest, seeds = (choose(len(row["seeds"]) for row in rows) for choose in (min, max))
    said = [", ".join(f"{task} {one['value']:.0f}" for task, one in row["scores"].items()) for row in rows]
    about = "; ".join(f"{_name(row)} {scores}" for row, scores in zip(rows, said, strict=True))
    count = f"{seeds}" if fewest == seeds else f"{fewest} to {seeds}"
    runs = "One seed" if seeds == 1 else f"Means of {count} seeds, whose own scores are the stripes"
    parts = [
        f"<title>Scores on tasks that need memory: {escape(about)}</title>",
        _text(8, 20, "Which backbone remembers what", palette.ink, size=16, weight=600),
        _text(8, 40, f"0: no memory. 100: perfect. {runs}, each backbone tuned.", palette.soft),
    ]
    for need, tasks in NEEDS.items():
        middle = LEFT + (_column(tasks[0]) + _column(tasks[-1]) + SQUARE) / 2
        parts.append(_text(middle, HEAD - 28, need, palette.ink, anchor="middle", weight=600))
        for task in tasks:
            size = task.partition("-")[2] or task
            parts.append(_text(LEFT + _column(task) + SQUARE / 2, HEAD - 10, size, palette.soft, anchor="middle"))
    for line, row in enumerate(rows):
        y = HEAD + LINE * line
        parts.append(_text(LEFT - 12, y + LINE / 2 + 4, _name(row), palette.ink, anchor="end"))
        for task, one in row["scores"].items():
            parts += _score(LEFT + _column(task), y, one, palette)
    return _svg(width, height, parts)


def _column(task: str) -> float:
    """Where the column of a task begins, from the first one."""
    group = next(index for index, tasks in enumerate(NEEDS.values()) if task in tasks)
    return [name for tasks in NEEDS.values() for name in tasks].index(task) * SQUARE + group * GAP


def _score(x: float, y: float, score: Mapping[str, Any], palette: Palette) -> list[str]:
    """A square with a stripe for each seed: a mean of 69 may be 4, 100 and 100."""
    values, parts = score["values"], []
    wide = (SQUARE - 2) / len(values)
    for index, value in enumerate(values):
        place = f'x="{x + 1 + index * wide:.1f}" y="{y + 1}" width="{wide:.1f}" height="{LINE - 2}"'
        opacity = DARKEST * min(max(value / 100, 0), 1)
        parts.append(f'<rect {place} fill="{palette.rows[0]}" fill-opacity="{opacity:.3f}"/>')
    mean = f"{round(score['value'])}".replace("-", "\u2212")
    return [*parts, _text(x + SQUARE / 2, y + LINE / 2 + 4, mean, palette.ink, anchor="middle")]


def draw(board: Mapping[str, Any], palette: Palette) -> str:
    """The picture as SVG: IQM with intervals on the left, IQM against training speed on the right."""
    rows = sorted((row for row in board["rows"] if row["aggregates"]), key=lambda row: -_iqm(row)["value"])
    colours = dict(zip([row["id"] for row in rows], palette.rows[: len(rows)], strict=True))
    about = "; ".join(f"{row['label']} {_iqm(row)['value']:.1f}" for row in rows)
    tasks, seeds = len(board["tasks"]), min(len(row["seeds"]) for row in rows)
    title = f"{tasks} Gym tasks, {seeds} seeds, preset quick, embedded data. Bars: 95 % intervals over seeds."
    parts = [
        f"<title>IQM score of {len(rows)} backbones: {escape(about)}</title>",
        _text(8, 20, f"Score and cost of {len(rows)} backbones", palette.ink, size=16, weight=600),
        _text(8, 40, title, palette.soft),
        *_intervals(rows, colours, palette),
        *_against_speed(rows, colours, palette),
    ]
    return _svg(WIDTH, HEIGHT, parts)


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'font-family="{FONT}">\n{body}\n</svg>\n'
    )


def _intervals(rows: Sequence[Row], colours: Mapping[str, str], palette: Palette) -> list[str]:
    scale = _score_axis(rows, 112, 372)
    parts = _ticks(scale, palette, across=True)
    parts.append(_text(242, HEIGHT - 12, "IQM, normalised score", palette.soft, anchor="middle"))
    for index, row in enumerate(rows):
        y = TOP + (BOTTOM - TOP) * (index + 0.5) / len(rows)
        one, colour = _iqm(row), colours[row["id"]]
        parts.append(_text(100, y + 4, _name(row), palette.ink, anchor="end"))
        parts.append(_line(scale(one["low"]), y, scale(one["high"]), y, colour, 3))
        parts.append(_dot(scale(one["value"]), y, colour))
        parts.append(_text(416, y + 4, f"{one['value']:.1f}", palette.ink, anchor="end"))
    return parts


def _against_speed(rows: Sequence[Row], colours: Mapping[str, str], palette: Palette) -> list[str]:
    x = axis([row["cost"]["train_tokens_per_s"] for row in rows], 505, 850)
    y = _score_axis(rows, BOTTOM, TOP)
    parts = [*_ticks(x, palette, across=True), *_ticks(y, palette, across=False)]
    parts.append(_text(480, TOP - 10, "IQM", palette.soft, anchor="middle"))
    parts.append(_text(675, HEIGHT - 12, "training tokens/s (→ faster)", palette.soft, anchor="middle"))
    places = {row["id"]: x(row["cost"]["train_tokens_per_s"]) for row in rows}
    for row in rows:
        one, colour, at = _iqm(row), colours[row["id"]], places[row["id"]]
        room = 16 + 7.5 * len(_name(row))
        left = at + room > WIDTH - 18 or any(0 < other - at < room for other in places.values())
        parts.append(_line(at, y(one["low"]), at, y(one["high"]), colour, 3))
        parts.append(_dot(at, y(one["value"]), colour))
        side = (at - 10, "end") if left else (at + 10, "start")
        parts.append(_text(side[0], y(one["value"]) + 4, _name(row), palette.ink, anchor=side[1]))
    return parts


def _name(row: Row) -> str:
    """The label without what is in brackets."""
    return str(row["label"]).partition(" (")[0]


def _iqm(row: Row) -> Mapping[str, float]:
    found: Mapping[str, float] = row["aggregates"]["iqm"]
    return found


def _score_axis(rows: Sequence[Row], start: float, end: float) -> Scale:
    return axis([_iqm(row)[side] for row in rows for side in ("low", "high")], start, end)


def _ticks(scale: Scale, palette: Palette, *, across: bool) -> list[str]:
    parts = []
    for value in scale.ticks(4):
        at = scale(value)
        if across:
            parts.append(_line(at, TOP, at, BOTTOM, palette.grid, 1))
            parts.append(_text(at, BOTTOM + 17, short(value), palette.soft, anchor="middle"))
        else:
            parts.append(_line(490, at, 862, at, palette.grid, 1))
            parts.append(_text(482, at + 4, short(value), palette.soft, anchor="end"))
    return parts


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: int) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}" stroke-linecap="round"/>'


def _dot(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5.5" fill="{colour}"/>'


def _text(
    x: float, y: float, content: str, colour: str, *, anchor: str = "start", size: int = 13, weight: int = 400
) -> str:  # one call for each text, every property of it named
    style = f'fill="{colour}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(content)}</text>'


def images() -> dict[str, str]:
    """File name to text of the pictures."""
    found = sections()
    board = next(one for one in found if one["id"] == SECTION)
    memory = next(one for one in found if one["id"].startswith(MEMORY) and one["tuning"])
    drawn = {f"board-{name}.svg": draw(board, palette) for name, palette in PALETTES.items()}
    return drawn | {f"memory-{name}.svg": draw_tasks(memory, palette) for name, palette in PALETTES.items()}


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    for name, text in images().items():
        (IMAGES / name).write_text(text, encoding="utf-8")
        print(f"written: docs/images/{name}")
