"""What a record may ask for. Anybody can write one, so what it names is checked before anything is imported or run.

A record runs what is installed: built-in backbones, those of installed plug-ins, and the environments of Backbench's
own suites or of Gymnasium's registry. Anything else is code, or goes to code, that the record's author chose. That
needs ``--trust``.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from backbench.backbones import BACKBONES
from backbench.benchmarks.plan import suites
from backbench.benchmarks.plan.from_json import cell_of
from backbench.benchmarks.plan.settings import Cell
from backbench.errors import UserError, require
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.trust.verify import contradictions

LAYERS, SIZE, THREADS = 256, 100_000, 1024  # the most that a record may ask for


def cell_to_run(record: Record, path: Path | str, trust: bool = False) -> Cell:
    """The record's cell, if its settings make its key and name nothing but what is installed, or with ``trust``.

    Imports nothing that the record names. Raises ``UserError``, which names ``path``.
    """
    cell = cell_of(record.provenance.config)
    require(
        cell.key == record.key,
        f"{path}: its settings make the cell {cell.key}, not {record.key}; another version of Backbench wrote it, "
        "or it was changed: download it from where it was published",
    )
    if (wrong := next(contradictions(record), None)) is not None:
        raise UserError(f"{path}: {wrong}; it was changed: download it from where it was published")
    require(record.provenance.threads <= THREADS, f"{path}: provenance.threads is {record.provenance.threads:,}")
    origin = BACKBONES.origin(cell.backbone)  # UserError for a name that is nothing
    if not trust:
        named = [f"its backbone {cell.backbone} is code that you run"] if origin == "command line" else []
        for what in (*named, *_foreign(cell)):
            raise UserError(f"{path}: {what}; if you know its author, and the code, give --trust")
    return cell


def _foreign(cell: Cell) -> Iterator[str]:
    """What a cell asks for beyond what is installed, or beyond reason."""
    module = cell.task.env_id.rpartition(":")[0]
    if not _of_a_suite(cell):
        if module:
            yield f"its environment {cell.task.env_id} imports the module {module}"
        if cell.task.env_kwargs:
            yield f"its environment {cell.task.env_id} gets arguments that no suite of Backbench has"
    if cell.model.n_layers > LAYERS:
        yield f"it asks for model.n_layers={cell.model.n_layers:,}"
    sizes = {f"model.{name}": value for name, value in vars(cell.model).items()}
    sizes |= dict(_flat(cell.options, "backbone"))
    sizes |= {"train.batch_size": cell.train.batch_size, "eval.episodes": cell.eval.episodes}
    for name, value in sizes.items():
        if isinstance(value, int) and value > SIZE:
            yield f"it asks for {name}={value:,}"


def _flat(options: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Options by their dotted names: those of a hybrid's parts are one level down."""
    for name, value in options.items():
        yield from _flat(value, f"{prefix}.{name}") if isinstance(value, Mapping) else [(f"{prefix}.{name}", value)]


def _of_a_suite(cell: Cell) -> bool:
    """Whether the cell's environment is that of a suite of Backbench's own."""
    mine: tuple[str, Any] = cell.task.env_id, dict(cell.task.env_kwargs)
    if cell.task.suite not in suites.built_in():
        return False
    rows = suites.table(cell.task.suite).tasks.values()
    return any((of.env_id, of.env_kwargs) == mine for row in rows for of in row.sources.values())
