"""``bench run``: words become cells, the runner runs them, and the board is printed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backbench import storage, terminal
from backbench.benchmarks.api.boards import alike, printed
from backbench.benchmarks.api.carry import Show, carry_all
from backbench.benchmarks.api.engines import Where, check_options
from backbench.benchmarks.cli import words
from backbench.benchmarks.plan.request import Budget, Request
from backbench.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from backbench.leaderboard.record.schema import Record

BOARD = "leaderboard.md"  # in the folder of results
Track = Annotated[
    str,
    typer.Option(
        help="none, tensorboard[:FOLDER], wandb[:PROJECT] or an MLflow tracking URI. Default: MLflow in the results."
    ),
]
Results = Annotated[Path, typer.Option("--out", help="Folder of records and checkpoints, or s3://bucket/prefix.")]


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
    jobs: Annotated[int, typer.Option(min=0, help="Cells side by side. 0: one per core, or per GPU.")] = 0,
    cells_per_device: Annotated[
        int, typer.Option(min=0, help="Most cells side by side on a GPU. With --jobs: both limits hold.")
    ] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    tune: Annotated[
        str,
        typer.Option(
            help="Try this many settings for each backbone first: learning rates, or your comma lists. With a sampler "
            "also FLOPs of training, such as 2e15flops, for as many settings as they allow."
        ),
    ] = "",
    sampler: Annotated[
        str,
        typer.Option(help="With --tune. grid: all settings. optuna: each from earlier scores, also of interval(a,b)."),
    ] = "grid",
    max_cells: Annotated[int, typer.Option(min=1, help="Most cells that one command may ask for.")] = 10_000,
    out: Results = Path("results"),
    track: Track = "",
    executor: Annotated[
        str, typer.Option(help="local: processes on this machine. slurm: a job array. ray: tasks. --jobs limits both.")
    ] = "local",
    partition: Annotated[str, typer.Option(help="Slurm: partition. Other options of sbatch: SBATCH_ACCOUNT, …")] = "",
    time: Annotated[str, typer.Option(help="Slurm: longest time of a cell, such as 60 (minutes) or 2:00:00.")] = "",
    address: Annotated[
        str, typer.Option(help="Ray: HOST:PORT of a cluster's head. Default: a Ray on this machine.")
    ] = "",
    mem: Annotated[str, typer.Option(help="Slurm, Ray: memory of a cell, such as 4G.")] = "",
    gpus: Annotated[str, typer.Option(help="Slurm, Ray: GPUs of a cell, such as 1 or a100:1. Ray: also 0.25.")] = "",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="List the cells, an estimate of time and the settings of the first; run nothing."
        ),
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
    if sampler != "grid" and not Budget.of(tune):
        raise UserError(f"--sampler {sampler} is for the trials of --tune N; add it")
    if not request.backbones:
        raise UserError("--backbone: name at least one; bench list backbones")
    out = storage.pull(out)
    options = {"partition": partition, "time": time, "address": address, "mem": mem, "gpus": gpus}
    where = Where(jobs, device, out, track, cells_per_device, executor, check_options(executor, options))
    if dry_run:
        from backbench.benchmarks.cli.plan import show_plan

        show_plan(request, where.out, where.jobs, tune, sampler)
    else:
        raise typer.Exit(invoke(request, where, tune, sampler))


def status(results: Annotated[Path, typer.Argument(help="Folder of results.")] = Path("results")) -> None:
    """Show the cells of each run in a folder by their state: done, failed, running and where, stale, queued, left."""
    from backbench.benchmarks.api.status import report

    for line in report(storage.pull(results, claims=True)):
        terminal.line(line)


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


def invoke(request: Request, where: Where, tune: int | str = 0, sampler: str = "") -> int:
    """Carry out a request; the exit status: 0 all done, 1 a cell failed, 128 + signal when it was stopped.

    ``tune``: how many settings are tried for each backbone before its cells run, or FLOPs; 0 for none.

    Raises:
        UserError: nothing was written.
    """
    show = on_terminal()
    carried = carry_all(request, where, show, tune, sampler)
    if carried.status > 128 or not carried.cells:
        return carried.status
    records, broken = alike(carried.cells[0], where.out)
    ran = bool(carried.outcomes)
    if ran:
        _write_board(where.out / BOARD, records)
    print_board(records)
    if ran:
        _say_what_is_written(where, carried.curves, show.console)
    return carried.status or (1 if broken else 0)


def on_terminal() -> Show:
    """A run is shown on the terminal, and its records name this process's command."""
    return Show(terminal.console(), terminal.console(error=True), ("bench", *sys.argv[1:]))


def _write_board(path: Path, records: Sequence[Record]) -> None:
    from backbench.files import write_whole
    from backbench.leaderboard.board.board import build_board
    from backbench.leaderboard.views.text import to_markdown

    write_whole(path, to_markdown(build_board(records)))


def _say_what_is_written(where: Where, curves: str, console: Console) -> None:
    if storage.is_address(place := storage.name(where.out)):
        terminal.say(console, f"Written: records and checkpoints in {place}; on this machine {where.out / BOARD}")
    else:
        terminal.say(console, f"Written: {where.out / BOARD}, {where.out / 'records'}, {where.out / 'checkpoints'}")
    if curves:
        terminal.say(console, f"Training curves in {curves}")


def print_board(records: Sequence[Record]) -> None:
    """The board of these records on the terminal."""
    console = terminal.console()
    console.print(printed(records, console.width))
