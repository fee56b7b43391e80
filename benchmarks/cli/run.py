"""``bench run``: words become cells, the runner runs them, and the board is printed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backbench import terminal
from backbench.benchmarks.cli import words
from backbench.benchmarks.plan.request import Request
from backbench.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from backbench.benchmarks.plan.settings import Cell
    from backbench.benchmarks.run.runner import Outcome
    from backbench.leaderboard.record.schema import Record

BOARD = "leaderboard.md"  # in the folder of results
Track = Annotated[
    str,
    typer.Option(
        help="none, tensorboard[:FOLDER], wandb[:PROJECT] or an MLflow tracking URI. Default: MLflow in the results."
    ),
]
Results = Annotated[Path, typer.Option("--out", help="Folder of records, checkpoints and the tracking database.")]


# A command has as many parameters as flags.
def run(
    backbone: Annotated[
        str,
        typer.Option(
            help="Names, comma-separated, or all; module:Class, file.py:Class; a+b for layers in turn.",
            autocompletion=words.backbones,
        ),
    ] = "",
    suite: Annotated[
        str, typer.Option(help="Suite of tasks: a name, or the path of a YAML file.", autocompletion=words.suites)
    ] = "d4rl",
    preset: Annotated[
        str,
        typer.Option(
            help="smoke (seconds), quick (minutes), paper or paper-decision-mamba (as published).",
            autocompletion=words.presets,
        ),
    ] = "quick",
    task: Annotated[
        str, typer.Option(help="Only these tasks of the suite, comma-separated.", autocompletion=words.tasks)
    ] = "",
    seeds: Annotated[
        str, typer.Option(help="How many seeds (3 is 0,1,2), a list such as 4,7, or a range such as 10-19.")
    ] = "1",
    data: Annotated[
        str, typer.Option(help="Data source instead of the preset's: bench data list.", autocompletion=words.sources)
    ] = "",
    jobs: Annotated[int, typer.Option(min=0, help="Cells side by side. 0: one per core, or one on a GPU.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    tune: Annotated[
        int,
        typer.Option(
            min=0, help="Try this many settings for each backbone first: learning rates, or your comma lists."
        ),
    ] = 0,
    max_cells: Annotated[int, typer.Option(min=1, help="Most cells that one command may ask for.")] = 10_000,
    out: Results = Path("results"),
    track: Track = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the cells with an estimate of time, and run nothing.")
    ] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="key=value, such as train.lr=1e-4,1e-3 or backbone.window=4. Commas make a grid."),
    ] = None,
) -> None:
    """Train and evaluate backbones on a suite, then print the board. Run the same command again to resume."""
    given = list(overrides or ())
    named = [text.removeprefix("suite=") for text in given if text.startswith("suite=")]
    request = Request(
        backbones=words.backbone_names(backbone),
        suite=named[-1] if named else suite,
        preset=preset,
        tasks=words.split(task),
        seeds=words.seeds(seeds, max_cells),
        source=data or None,
        overrides=tuple(text for text in given if not text.startswith("suite=")),
        max_cells=max_cells,
    )
    _no_positional_words(request)
    if not request.backbones:
        raise UserError("--backbone: name at least one; bench list backbones")
    where = Where(jobs=jobs, device=device, out=out, track=track)
    if dry_run:
        from backbench.benchmarks.cli.plan import show_plan

        show_plan(request, where.out, where.jobs, tune)
    else:
        raise typer.Exit(invoke(request, where, tune))


def _no_positional_words(request: Request) -> None:
    """Somebody who writes ``bench run gloma d4rl`` means flags; say which."""
    from backbench.backbones import BACKBONES
    from backbench.benchmarks.plan import compose, suites

    flags = {"--backbone": BACKBONES.names(), "--suite": suites.suites(), "--preset": compose.presets()}
    odd = [word for word in request.overrides if "=" not in word and not word.startswith(("+", "~"))]
    meant = {word: flag for word in odd for flag, known in flags.items() if word in known}
    for word in odd:
        meant |= {word: "--task"} if any(word in table.tasks for table in suites.tables()) else {}
    if meant:
        said = " ".join(f"{flag} {word}" for word, flag in meant.items())
        raise UserError(f"'{' '.join(meant)}': names go behind flags; write: bench run {said}")


@dataclass(frozen=True)
class Where:
    """Where a request runs: processes at a time (0: one per core), device, folder of results, ``--track``."""

    jobs: int = 0
    device: str = "auto"
    out: Path = Path("results")
    track: str = ""


def invoke(request: Request, where: Where, tune: int = 0) -> int:
    """Carry out a request; the exit status: 0 all done, 1 a cell failed, 128 + signal when it was stopped.

    ``tune``: how many settings are tried for each backbone before its cells run; 0 for none.

    Raises:
        UserError: nothing was written.
    """
    from backbench.benchmarks.plan.compose import plan, reach
    from backbench.benchmarks.run.results import tidy
    from backbench.benchmarks.run.runner import remaining

    curves, ran = "", False

    def run_left(cells: Sequence[Cell], later: Sequence[Cell] = ()) -> int:
        nonlocal curves, ran
        left = remaining(cells, where.out)
        tidy(cells, where.out)
        if not left:  # nothing heavy is imported: only the board is printed
            return 0
        ran = True
        status, curves = carry_out(request, where, cells, left, console, later)
        return status

    console = terminal.console()
    if not any((where.out / "records").glob("*.json")):
        reach(request)  # before hydra and torch are imported; with records there, less may be left to fetch
    if tune:
        from backbench.benchmarks.cli.plan import tuned_cells
        from backbench.benchmarks.plan.tune import tuning

        asked = tuning(request, tune)
        cells, status = tuned_cells(asked, where.out, lambda trials: run_left(trials, asked.untuned))
    else:
        cells, status = plan(request), 0
    status = max(status, run_left(cells)) if cells else status
    if status > 128 or not cells:
        return status
    records, broken = alike(cells[0], where.out)
    if ran:
        _write_board(where.out / BOARD, records)
    print_board(records)
    if ran:
        _say_what_is_written(where, curves, console)
    return status or (1 if broken else 0)


def carry_out(
    request: Request,
    where: Where,
    cells: Sequence[Cell],
    left: Sequence[Cell],
    console: Console,
    later: Sequence[Cell] = (),
) -> tuple[int, str]:
    """Run the cells that are left; those that come ``later`` are only prepared.

    The exit status, and where its curves are, if they are.
    """
    from backbench.backbones.kernels import slow_note
    from backbench.benchmarks.run import machine, runner
    from backbench.benchmarks.run.cell import choose_device
    from backbench.benchmarks.run.executors import Job
    from backbench.benchmarks.run.executors.local import LocalExecutor
    from backbench.benchmarks.run.sinks import open_log
    from backbench.benchmarks.run.sinks.terminal import RunDisplay, voice

    device = choose_device(where.device, left)
    jobs = min(where.jobs or (1 if device.type == "cuda" else machine.cores()), len(left))
    log = open_log(where.track, where.out, _warn)
    runner.prepare([*left, *later], where.out, voice(console), request.suite)
    before = f", {len(cells) - len(left)} done before" if len(left) < len(cells) else ""
    side = f"{jobs} at a time on {device.type}"
    terminal.say(
        console, f"{len(left)} cell{'s' if len(left) > 1 else ''} to run{before}; {side}; results in {where.out}/"
    )
    if device.type == "cpu" and (note := slow_note()):
        _warn(f"{note} (bench doctor says more)")
    command = ("bench", *sys.argv[1:])
    with log:
        log.start({"name": " ".join(command[:8]), "suite": cells[0].task.suite, "preset": request.preset})
        with RunDisplay(left, console) as display:
            job = Job(where.out, str(device), command)
            outcome = runner.run(left, job, LocalExecutor(jobs), [display, log])
        if log.active and not outcome.stopped:
            log.board(alike(cells[0], where.out, silent=True)[0])
    _say_what_failed(outcome, len(left), console)
    return outcome.status, f"{log.tool}: {log.look}" if log.active else ""


def _warn(text: str) -> None:
    terminal.say(terminal.console(error=True), text, style="yellow")


def _say_what_failed(outcome: Outcome, count: int, console: Console) -> None:
    for record in outcome.failed:
        if record.failure is not None:
            terminal.say(console, f"failed: {record.key}: {record.failure.message}")
    for key, message in outcome.errors.items():
        terminal.say(console, f"not done: {key}: {message}")
    if outcome.stopped:
        done = len(outcome.done)
        resume = "run the same command again to resume from checkpoints"
        terminal.say(console, f"stopped: {done} of {count} cells done; {resume}")


def _write_board(path: Path, records: Sequence[Record]) -> None:
    from backbench.files import write_whole
    from backbench.leaderboard.board.board import build_board
    from backbench.leaderboard.views.text import to_markdown

    write_whole(path, to_markdown(build_board(records)))


def _say_what_is_written(where: Where, curves: str, console: Console) -> None:
    terminal.say(console, f"Written: {where.out / BOARD}, {where.out / 'records'}, {where.out / 'checkpoints'}")
    if curves:
        terminal.say(console, f"Training curves in {curves}")


def alike(cell: Cell, folder: Path, silent: bool = False) -> tuple[list[Record], int]:
    """The records in a folder of results that stand on one board with ``cell``, and the number of broken ones."""
    records, broken = read_records(folder, silent)
    wanted = (cell.task.suite, cell.preset, cell.data.source)
    same = [r for r in records if (r.identity.suite, r.identity.preset, r.identity.source) == wanted]
    return same, broken


def read_records(folder: Path, silent: bool = False) -> tuple[list[Record], int]:
    """The good records below ``folder`` (of results, or of records) and the number of broken ones, each named."""
    from backbench.leaderboard.record.files import load_records

    inside = folder / "records"
    good, bad = load_records(inside if inside.is_dir() else folder)
    for error in () if silent else bad:
        terminal.line(f"bench: {error}", error=True)
    return good, len(bad)


def print_board(records: Sequence[Record]) -> None:
    """The board of these records on the terminal."""
    from backbench.leaderboard.board.board import build_board
    from backbench.leaderboard.record.files import COMMITTED, load_records
    from backbench.leaderboard.views.text import to_rich

    console = terminal.console()
    committed = build_board(load_records(COMMITTED)[0]) if COMMITTED.is_dir() else None
    # Papers' scores on other data say little beside a fresh run; `bench leaderboard` shows them.
    console.print(to_rich(build_board(records), console.width, published=False, beside=committed))
