"""``bench study``: a declared grid runs, and its records become a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backbench import terminal
from backbench.benchmarks.api.carry import carry_out
from backbench.benchmarks.api.engines import Where
from backbench.benchmarks.cli import words
from backbench.benchmarks.cli.run import Track, on_terminal
from backbench.benchmarks.plan.request import Request
from backbench.benchmarks.studies import STUDIES
from backbench.errors import UserError, require, suggest

if TYPE_CHECKING:
    from backbench.benchmarks.plan.settings import Cell
    from backbench.benchmarks.studies.study import Cells, Records
    from backbench.leaderboard.record.schema import Record

NAMES = tuple(STUDIES)
LONG = 6 * 3600  # seconds of a grid that starts without --yes


# A command has as many parameters as flags.
def study(
    name: Annotated[str, typer.Argument(help=f"{', '.join(NAMES)}.", autocompletion=lambda: list(NAMES))],
    preset: Annotated[
        str, typer.Option(help="smoke (a minute), quick (hours), paper (days).", autocompletion=words.presets)
    ] = "quick",
    jobs: Annotated[int, typer.Option(min=0, help="Cells side by side. 0: one per core, or per GPU.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="Folder of records and report. Default: studies/NAME.")] = None,
    track: Track = "",
    results: Annotated[
        Path | None, typer.Option(help="Run nothing: read the records and checkpoints of this folder (reach).")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Start even if it takes longer than six hours.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and how long, and stop.")] = False,
) -> None:
    """Run one of the paper's studies and write its report. Run the same command again to resume."""
    from backbench.benchmarks.run.runner import remaining
    from backbench.benchmarks.studies.report import write
    from backbench.benchmarks.studies.study import Cells, cells_of

    if name not in NAMES:
        raise UserError(f"unknown study '{name}'{suggest(name, NAMES)}")
    chosen, folder, console = STUDIES[name](), out or Path("studies") / name, terminal.console()
    if results is not None:
        require(chosen.reads_any, f"--results: study {name} reads its own cells alone; run it, or remove --results")
        found = _all_records(results)
        nothing = Cells({arm: [] for arm in found.by_arm}, {})
        files = write(
            chosen, chosen.read(found), nothing, found, folder, [f"Command: `bench study {name} --results FOLDER`"]
        )
        terminal.say(console, f"Written in {folder}/: {', '.join(files)}")
        return
    parts = chosen.parts(preset)
    made = cells_of(parts, preset)
    left = remaining(made.every, folder)
    smallest = chosen.smallest(parts)
    terminal.say(console, chosen.question)
    terminal.say(console, smallest)
    for arm, reason in made.skipped.items():
        terminal.say(console, f"skipped: {arm.name}: {reason}")
    seconds, basis = _estimate(left, folder, jobs)
    time = f", {_about(seconds)}. {basis}" if left else "."
    terminal.say(console, f"{len(left)} of {len(made.every)} cells to run{time}")
    if dry_run:
        return
    if seconds > LONG and not yes:
        raise UserError(f"that is about {seconds / 3600:.0f} hours: add --yes to start, or choose a smaller --preset")
    status = 0
    if left:
        # An empty suite: the cells come from several.
        request = Request((), "", preset)
        where = Where(jobs, device, folder, track)
        status = carry_out(request, where, made.every, left, on_terminal())[0].status
        if status > 128:
            raise typer.Exit(status)
    found = _records(made, folder)
    about = [f"Command: `bench study {name} --preset {preset}`", smallest]
    files = write(chosen, chosen.read(found), made, found, folder, about)
    terminal.say(console, f"Written in {folder}/: {', '.join(files)}, records")
    raise typer.Exit(status)


def _records(made: Cells, folder: Path) -> Records:
    from backbench.benchmarks.run.results import finished
    from backbench.benchmarks.studies.study import Records

    by_arm = {arm: [finished(cell, folder) for cell in cells] for arm, cells in made.cells.items()}
    return Records({arm: [one for one in found if one is not None] for arm, found in by_arm.items()}, folder)


def _all_records(results: Path) -> Records:
    """Every finished record of a folder of results. UserError without one."""
    from backbench.benchmarks.api.boards import read_records
    from backbench.benchmarks.studies.study import Arm, Records

    by_arm: dict[Arm, list[Record]] = {}
    for record in read_records(results)[0]:
        if record.status == "done":
            backbone, variant = record.identity.backbone, record.identity.variant
            name = f"{backbone} ({variant})" if variant else backbone
            by_arm.setdefault(Arm(name, backbone, tuple(variant.split())), []).append(record)
    require(bool(by_arm), f"--results {results}: no finished records there; give a folder of results")
    return Records(by_arm, results)


def _estimate(left: list[Cell], folder: Path, jobs: int) -> tuple[float, str]:
    """Seconds of wall time, and what the estimate rests on."""
    from backbench.benchmarks.run import machine
    from backbench.benchmarks.run.estimate import Estimator
    from backbench.leaderboard.record.files import FOLDER

    estimator = Estimator([folder, FOLDER])
    total = sum(estimator.seconds(cell) or estimator.guess(cell) for cell in left)
    return total / min(jobs or machine.cores(), max(1, len(left))), estimator.basis


def _about(seconds: float) -> str:
    return "time unknown" if not seconds else f"about {seconds / 3600:.1f} hours" if seconds > 360 else "minutes"
