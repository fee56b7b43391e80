"""One ``bench run``: the grid is composed, data are prepared, cells run, and the board is printed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run.sinks.terminal import RunDisplay, progress_of, transfer
from backbench.errors import UserError
from backbench.leaderboard.board.board import build_board
from backbench.leaderboard.record.files import RecordError, load_record, load_records
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.views.text import to_markdown, to_rich


@dataclass(frozen=True)
class Invocation:
    """What was asked for on the command line; see ``bench run --help``."""

    backbones: tuple[str, ...]
    suite: str = "d4rl"
    preset: str = "quick"
    tasks: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    source: str | None = None
    jobs: int = 0
    device: str = "auto"
    out: Path = Path("results")
    track: str | None = None
    overrides: tuple[str, ...] = ()


def invoke(asked: Invocation) -> int:
    """Carry it out; the exit status: 0 all done, 1 a cell failed, 128 + signal when it was stopped.

    Raises:
        UserError: nothing was written.
    """
    from backbench.benchmarks.plan.compose import cells as compose_cells
    from backbench.benchmarks.run.grid import finished

    console = Console()
    if not asked.backbones:
        raise UserError("--backbone: name at least one; bench list backbones")
    _within_reach(asked)
    cells = compose_cells(
        asked.backbones, asked.suite, asked.preset, asked.seeds, asked.tasks, asked.source, asked.overrides
    )
    try:
        left = [cell for cell in cells if not _same_data(finished(cell, asked.out))]
    except RecordError as error:
        raise UserError(str(error)) from error
    # Nothing heavy is imported where there is nothing left to do: then only the board is printed.
    status = _run(asked, cells, left, console) if left else 0
    if status > 128:
        return status
    records, broken = read_records(asked.out)
    alike = [
        r
        for r in records
        if (r.identity.suite, r.identity.preset, r.identity.source)
        == (cells[0].task.suite, asked.preset, cells[0].data.source)
    ]
    print_board(alike)
    if left:
        (asked.out / "leaderboard.md").write_text(to_markdown(build_board(alike)))
        console.print(f"Written: {asked.out / 'leaderboard.md'}. Look closer: bench ui --out {asked.out}", markup=False)
    return status or (1 if broken else 0)


def _run(asked: Invocation, cells: Sequence[Cell], left: Sequence[Cell], console: Console) -> int:
    """Run the cells that are left; the exit status."""
    from backbench.backbones.kernels import slow_note
    from backbench.benchmarks.data import sources
    from backbench.benchmarks.plan.compose import check_models
    from backbench.benchmarks.run import provenance
    from backbench.benchmarks.run.cell import choose_device
    from backbench.benchmarks.run.grid import run_cells
    from backbench.benchmarks.run.sinks.tracking import Tracker

    device = choose_device(asked.device)
    check_models(left)
    jobs = min(asked.jobs or (1 if device.type == "cuda" else provenance.cores()), len(left))
    due = sources.plan((cell.data.source, cell.task) for cell in left)
    _playable(asked.suite, left)
    _could_write(asked.out)
    if due.fetch:  # before anything is written
        said = Console(stderr=True, soft_wrap=True)
        sources.fetch(due.fetch, partial(said.print, markup=False, highlight=False), partial(transfer, said))
    _writable(asked.out)
    if due.make:
        sources.make_all(due.make, provenance.cores(), progress_of(due.make, console, "made"))
    skipped = f", {len(cells) - len(left)} done before" if len(left) < len(cells) else ""
    console.print(
        f"{len(left)} cells to run{skipped}; {jobs} side by side on {device.type}; results in {asked.out}/",
        markup=False, highlight=False,
    )  # fmt: skip
    command = ["bench", *sys.argv[1:]]
    warn = Console(stderr=True)
    if device.type == "cpu" and (note := slow_note()):
        warn.print(f"{note} (bench doctor says more)", style="yellow", markup=False, highlight=False, soft_wrap=True)
    with (
        Tracker(asked.out, asked.track, warn=lambda text: warn.print(text, style="yellow", markup=False)) as tracker,
        RunDisplay(left, console) as display,
    ):
        tracker.start({"name": " ".join(command[:8]), "suite": cells[0].task.suite, "preset": asked.preset})

        def report(cell: Cell, event: dict[str, Any]) -> None:
            display.event(cell, event)
            _track(tracker, cell, event, asked.out)

        outcome = run_cells(left, asked.out, jobs, device=str(device), report=report, command=command)
    for record in outcome.failed:
        if record.failure is not None:
            console.print(
                f"failed: {record.key}: {record.failure.message}", markup=False, highlight=False, soft_wrap=True
            )
    for key, message in outcome.errors.items():
        console.print(f"not done: {key}: {message}", markup=False, highlight=False, soft_wrap=True)
    if outcome.stopped:
        done = len(outcome.done)
        console.print(f"stopped: {done} of {len(left)} cells done; the same command goes on from the checkpoints")
        return 128 + outcome.stopped
    return 1 if outcome.failed or outcome.errors else 0


def _same_data(done: Record | None) -> bool:
    """Whether a cell is done; UserError if that was with other data than those that are in the store now."""
    from backbench.benchmarks.data import store

    if done is None or done.identity.data is None:
        return done is not None
    used, name = done.identity.data.sha256, done.identity.data.id
    here = store.digest(name) if store.exists(name) else None
    if here is not None and here != used:
        raise UserError(
            f"{done.key} was run on other data: {name} had the hash {used[:8]}, and in the store it has {here[:8]}; "
            "choose another folder with --out, or move the record away"
        )
    return True


def _within_reach(asked: Invocation) -> None:
    """Say within two seconds, before torch is imported, that data are not here and their source cannot be reached."""
    from backbench.benchmarks.data import store
    from backbench.benchmarks.data.sources import SOURCES
    from backbench.benchmarks.plan import suites
    from backbench.benchmarks.plan.compose import source_of

    if any((asked.out / "records").glob("*.json")):
        return  # what is left to do, composing says; with nothing left, nothing is fetched
    source = source_of(asked.suite, asked.preset, asked.source, asked.overrides)
    rows = suites.table(asked.suite).tasks
    for name in asked.tasks or rows:
        chosen = rows[name].sources.get(source) if name in rows else None  # composing says what is unknown
        if chosen and not store.exists(chosen.data_id):
            SOURCES.get(source).reach(chosen.data_id)
            return


def _playable(suite: str, cells: Sequence[Cell]) -> None:
    """See that environments can be played here before anything is downloaded or trained; not Gymnasium's own robots."""
    from backbench.benchmarks.environments import vector
    from backbench.benchmarks.plan import suites

    table = suites.table(suite)
    seen: set[str] = set()
    for task in (cell.task for cell in cells):
        what = repr((task.env_id, task.env_kwargs))
        if (table.requires or task.suite_tasks) and what not in seen:
            seen.add(what)
            vector.probe(task.env_id, task.env_kwargs, table.requires, table.remedy)


def _track(tracker: Any, cell: Cell, event: dict[str, Any], out: Path) -> None:
    kind = event["kind"]
    if kind == "started":
        tracker.cell_started(cell.key, cell.resolved())
    elif kind in ("train", "eval"):
        values = {k: float(v) for k, v in event.items() if k not in ("kind", "step")}
        tracker.metrics(cell.key, event["step"], values)
    elif kind in ("done", "failed"):
        tracker.cell_finished(cell.key, load_record(cell.record_path(out)))
    elif kind in ("error", "stopped"):
        tracker.cell_failed(cell.key, event.get("message", kind))


def _could_write(folder: Path) -> None:
    """See to it before a long download, leaving nothing behind."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        reason = "Permission denied" if there.is_dir() else f"{there.name} is no folder"
        raise UserError(f"cannot write to {folder}: {reason}; choose another folder with --out")


def _writable(folder: Path) -> None:
    try:
        (folder / "records").mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; choose another folder with --out") from error


def read_records(folder: Path) -> tuple[list[Record], int]:
    """The good records below ``folder`` (of results, or of records) and the number of broken ones, each named."""
    records = folder / "records"
    good, bad = load_records(records if records.is_dir() else folder)
    for error in bad:
        print(f"bench: {error}", file=sys.stderr)
    return good, len(bad)


def print_board(records: Sequence[Record], markdown: bool = False) -> None:
    """The board of these records on the terminal."""
    board = build_board(records)
    if markdown:
        print(to_markdown(board))
    else:
        console = Console()
        # Beside what was run this minute, papers' scores on other data say little; `bench leaderboard` has them.
        console.print(to_rich(board, console.width, published=False))
