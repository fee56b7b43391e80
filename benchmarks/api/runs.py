"""``backbench.run`` and ``backbench.run_cell``: what ``bench run`` does, from Python."""

from __future__ import annotations

import html
import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbench import storage, terminal
from backbench.benchmarks.api.boards import Shown, alike, scores
from backbench.benchmarks.api.carry import Show, carry_all, carry_out, whole
from backbench.benchmarks.api.engines import Where, check_options
from backbench.benchmarks.plan.request import Budget, Request
from backbench.errors import UserError, require

if TYPE_CHECKING:
    from backbench.benchmarks.plan.settings import Cell
    from backbench.benchmarks.run.runner import Outcome
    from backbench.leaderboard.record.schema import Record

MOST_CELLS = 10_000
Overrides = Sequence[str] | Mapping[str, Any]


@dataclass(frozen=True)
class Results:
    """What ``backbench.run`` returns. ``print`` shows the scores, and so does a notebook.

    Attributes:
        folder: of records and checkpoints.
        records: of the cells that are done, in the order of backbones, settings, tasks and seeds; also of those that
            an earlier run finished.
        failed: records of cells that failed in this run, with ``failure.message`` instead of scores.
        errors: key of a cell without a record -> why, in one line.
        board: the records of the folder with the same suite, preset and data source. ``print`` shows it in full.
    """

    folder: Path
    records: tuple[Record, ...]
    failed: tuple[Record, ...]
    errors: Mapping[str, str]
    board: Shown

    def __str__(self) -> str:
        """Normalised scores, mean over seeds; a line for each task, and one for each problem."""
        return "\n\n".join([*map(_aligned, scores(self.board.sections)), *self._problems()])

    def __repr__(self) -> str:
        counts = f"{len(self.records)} done, {len(self.failed)} failed, {len(self.errors)} without a record"
        return f"<results in {self.folder}: {counts}>"

    def _repr_html_(self) -> str:
        tables = []
        for lines in scores(self.board.sections):
            rows = ("".join(f"<td>{html.escape(word)}</td>" for word in line) for line in lines)
            tables.append(f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>")
        return "".join([*tables, *(f"<p>{html.escape(line)}</p>" for line in self._problems())])

    def _problems(self) -> list[str]:
        failed = [f"failed: {one.key}: {one.failure.message}" for one in self.failed if one.failure is not None]
        return failed + [f"not done: {key}: {message}" for key, message in self.errors.items()]


# As many parameters as `bench run` has flags.
def run(
    backbone: str | Sequence[str],
    suite: str = "d4rl",
    *,
    task: str | Sequence[str] = (),
    preset: str = "quick",
    seeds: int | Sequence[int] = 1,
    data: str | None = None,
    tune: int | str = 0,
    sampler: str = "grid",
    out: str | Path = "results",
    jobs: int = 0,
    device: str = "auto",
    track: str = "",
    overrides: Overrides = (),
    executor: str = "local",
    options: Mapping[str, str] | None = None,
    progress: bool = False,
) -> Results:
    """Train and evaluate backbones on a suite. Call it again to resume; finished cells are reused.

        results = backbench.run(["gloma", "mamba"], task="hopper-medium", seeds=3)
        print(results.board)

    It needs no ``if __name__ == "__main__"``: worker processes do not import the script. Ctrl-C writes checkpoints.

    Args:
        backbone: registered names, ``package.module:Class``, or such names joined by ``+`` for layers in turn.
        suite: a name, or the path of a YAML file.
        task: one or more tasks of the suite; empty for all.
        preset: ``smoke`` (seconds), ``quick`` (minutes), ``paper`` or ``paper-decision-mamba``.
        seeds: how many (3 is 0, 1, 2), or a list of them.
        data: data source instead of the preset's.
        tune: settings that each backbone tries first, as ``bench run --tune``, or FLOPs such as ``"2e15flops"``; 0 for
            none.
        sampler: ``grid`` tries all, ``optuna`` proposes each from the scores before.
        out: folder of results, or an address such as ``s3://bucket/prefix``. Several processes may run into one folder;
            each cell runs once.
        jobs: cells side by side; 0 for one per core, or per GPU. A backbone that is defined in the script or
            notebook itself runs one cell after another in this process.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        track: as ``--track``: ``"none"``, an MLflow tracking URI, …; empty: MLflow's database in ``out``.
        overrides: ``["train.lr=1e-4,1e-3"]``, where commas make a grid, or ``{"train.lr": 1e-3}``.
        executor: ``local``, ``slurm`` or ``ray``, where ``jobs`` cells run at a time.
        options: of the executor: any of sbatch, such as ``{"time": "60", "account": "me"}``, or for Ray ``address``,
            ``mem`` and ``gpus``.
        progress: whether to print what ``bench run`` prints before its board.

    Raises:
        UserError: something asked for does not exist or does not fit. Nothing was written.
        KeyboardInterrupt: after the running cells wrote checkpoints.
    """
    names = (backbone,) if isinstance(backbone, str) else tuple(backbone)
    tasks = (task,) if isinstance(task, str) else tuple(task)
    require(bool(names) and all(isinstance(one, str) and one for one in names), f"backbone={backbone!r}: name one")
    words = override_words(overrides)
    request = Request(names, suite, preset, tasks, _seeds(seeds), data, words, max_cells=MOST_CELLS)
    require(whole(jobs), f"jobs={jobs!r}: give a whole number of 0 or more")
    require(isinstance(tune, str) or whole(tune), f"tune={tune!r}: give a whole number of 0 or more, or FLOPs")
    require(bool(Budget.of(tune)) or sampler == "grid", f"sampler={sampler!r} is for the trials of tune=N; add it")
    command = f"backbench.run --suite {suite} --preset {preset} --seeds {_listed(request.seeds)}".split()
    command += ["--backbone", ",".join(names), *(["--task", ",".join(tasks)] if tasks else [])]
    if executor != "slurm":  # which takes any option of sbatch
        check_options(executor, options or {})
    folder = storage.pull(out)
    where = Where(jobs, device, folder, track, executor=executor, options=options or {})
    with _show(progress, (*command, *words)) as show:
        carried = carry_all(request, where, show, tune, sampler)
    for outcome in carried.outcomes:
        _stop_if_asked(outcome)
    return _results(carried.cells, folder, carried.outcomes)


def run_cell(cell: Cell | Mapping[str, Any], out: str | Path = "results", device: str = "auto") -> Record:
    """Train, evaluate and record one cell in this process, resuming from a checkpoint if there is one.

        record = backbench.run_cell(backbench.cell("gloma", "hopper-medium", preset="smoke"))
        print(record.scores.last.targets[0].returns)      # raw return of each episode

    A cell that is done is not run again: its record is returned. If another process runs it, this waits for the record.
    Torch uses one thread meanwhile, as in ``run``, so the numbers are the same. If training diverges or the backbone
    raises an error, the record says so: ``status == "failed"``.

    Args:
        cell: from ``backbench.cell``, or the settings in a record, ``record.provenance.config``.
        out: folder of results.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UserError: settings, data, device or folder that cannot be used.
        KeyboardInterrupt: after a checkpoint.
    """
    from backbench.benchmarks.plan.from_json import cell_of
    from backbench.benchmarks.run.results import finished, tidy
    from backbench.benchmarks.run.runner import remaining

    chosen = cell_of(cell) if isinstance(cell, Mapping) else cell
    folder = storage.pull(out)
    left = remaining([chosen], folder)
    tidy([chosen], folder)
    if not left:
        record = finished(chosen, folder)
        assert record is not None
        return record
    with _show(False, ("backbench.run_cell", chosen.key)) as show:
        where = Where(1, device, folder, "none", executor="inline")
        outcome, _ = carry_out(Request((chosen.backbone,), "", chosen.preset), where, [chosen], left, show)
    _stop_if_asked(outcome)
    for message in outcome.errors.values():
        raise UserError(message)
    return (outcome.done + outcome.failed)[0]


def cell(
    backbone: str, task: str, suite: str = "d4rl", preset: str = "quick", seed: int = 0, overrides: Overrides = ()
) -> Cell:
    """One cell: everything that its result depends on. Arguments are those of ``run``; overrides have one value each.

        cell = backbench.cell("mamba", "hopper-medium", seed=1, overrides={"train.lr": 1e-3, "backbone.d_state": 8})
        print(cell.key, cell.model.context)

    Raises:
        UserError: something does not exist or does not fit, or the overrides make several cells.
    """
    from backbench.benchmarks.plan.compose import plan

    words = override_words(overrides)
    cells = plan(Request((backbone,), suite, preset, (task,), _seeds([seed]), overrides=words))
    require(len(cells) == 1, f"overrides {' '.join(words)}: they make {len(cells)} cells; give one value each")
    return cells[0]


def override_words(overrides: Overrides) -> tuple[str, ...]:
    """Overrides as the words of a command. A list in a mapping is one value, not a grid."""
    if isinstance(overrides, str):
        raise UserError(f"overrides={overrides!r}: give a list such as ['train.lr=1e-3'], or a mapping")
    if not isinstance(overrides, Mapping):
        return tuple(map(str, overrides))
    return tuple(f"{key}={_word(value)}" for key, value in overrides.items())


def _word(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"[{','.join(map(_word, value))}]" if isinstance(value, list | tuple) else str(value)


def _seeds(seeds: Any) -> tuple[int, ...]:
    if not isinstance(seeds, Iterable):
        fits = whole(seeds, 1) and seeds <= MOST_CELLS
        require(fits, f"seeds={seeds!r}: give how many, 1 to {MOST_CELLS:,}, or a list such as [7]")
        return tuple(range(int(seeds)))
    given = tuple(seeds)
    require(bool(given) and all(map(whole, given)), f"seeds={seeds!r}: give whole numbers of 0 or more")
    return tuple(map(int, given))


def _listed(seeds: Sequence[int]) -> str:
    return str(len(seeds)) if tuple(seeds) == tuple(range(len(seeds))) else ",".join(map(str, seeds))


@contextmanager
def _show(progress: bool, command: tuple[str, ...]) -> Iterator[Show]:
    """Where a run speaks: the terminal, or nowhere."""
    if progress:
        yield Show(terminal.console(), terminal.console(error=True), command)
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        yield Show(terminal.console(file=nowhere), terminal.console(file=nowhere), command)


def _stop_if_asked(outcome: Outcome) -> None:
    """What the signal means outside of a run: SIGINT becomes KeyboardInterrupt."""
    if outcome.stopped:
        signal.raise_signal(outcome.stopped)
        raise KeyboardInterrupt  # the signal is ignored, as in a job that a shell runs in the background


def _results(cells: Sequence[Cell], out: Path, outcomes: Sequence[Outcome]) -> Results:
    from backbench.benchmarks.run.results import finished

    found = [finished(cell, out) for cell in cells]
    failed = [record for outcome in outcomes for record in outcome.failed]
    errors = {key: message for outcome in outcomes for key, message in outcome.errors.items()}
    shown = alike(cells[0], out, silent=True)[0] if cells else failed
    return Results(out, tuple(one for one in found if one is not None), tuple(failed), errors, Shown(shown))


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.rjust, line, widths)).rstrip() for line in lines)
