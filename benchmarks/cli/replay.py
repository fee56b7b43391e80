"""``bench reproduce``, ``verify``, ``watch``, ``export`` and ``ui``: a second look at what has run."""

import os
import sqlite3
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from backbench import storage, terminal
from backbench.benchmarks.api.carry import carry_out
from backbench.benchmarks.api.engines import Where
from backbench.benchmarks.cli import words
from backbench.benchmarks.cli.run import Results, on_terminal
from backbench.benchmarks.plan.request import Request
from backbench.errors import UserError
from backbench.text import SQLITE, path_url

RECORDS = Path("leaderboard/published/records")
Trust = Annotated[bool, typer.Option("--trust", help="Import the backbone or the environment that the record names.")]


def reproduce(
    record: Annotated[Path, typer.Argument(help="Path of a record.")],
    out: Annotated[Path, typer.Option(help="Fresh folder of the new record and its checkpoints.")] = Path("reproduced"),
    data: Annotated[Path | None, typer.Option(help="Store of data sets instead of your own.")] = None,
    submit: Annotated[
        bool, typer.Option("--submit", help="Add the new record to the verifications, if this is another machine.")
    ] = False,
    to: Annotated[Path, typer.Option(help="Folder of verifications.")] = Path("leaderboard/published/verifications"),
    trust: Trust = False,
) -> None:
    """Run a cell again from its record alone: equal bits, equal score, or by how much it differs (then exit 1)."""
    from backbench.benchmarks.replay.reproduce import reproduce as again

    if data is not None:
        os.environ["MINARI_DATASETS_PATH"] = str(data.absolute())
    raise typer.Exit(again(storage.pull(record), storage.pull(out), to if submit else None, trust=trust).status)


# A command has as many parameters as flags.
def watch(
    record: Annotated[
        str, typer.Argument(help="Path of a record, or a unique part of its key.", autocompletion=words.records)
    ],
    results: Annotated[Path, typer.Option(help="Folder of records and checkpoints.")] = Path("results"),
    episode: Annotated[int, typer.Option(help="Number of the evaluation's episode, from 0.")] = 0,
    target: Annotated[
        float | None, typer.Option(help="One of the record's target returns. Default: the first.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the pictures.")] = Path("watch"),
    frames: Annotated[int, typer.Option(min=1, help="Pictures in the strip.")] = 12,
    video: Annotated[bool, typer.Option(help="Make a video as well.")] = True,
    max_steps: Annotated[int, typer.Option(min=0, help="Stop after so many steps. 0: play the whole episode.")] = 0,
    trust: Trust = False,
) -> None:
    """Play an episode of a record's evaluation again, to the bit, and make pictures of it: a strip and a video."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; the record's own number comes later
    from backbench.benchmarks.replay.watch import Request
    from backbench.benchmarks.replay.watch import watch as play

    there, results = str(storage.pull(record)), storage.pull(results)
    for line in play(Request(there, results, episode, target, out, frames, video, max_steps, trust)):
        terminal.line(line)


# A command has as many parameters as flags.
def export(
    record: Annotated[
        str, typer.Argument(help="Path of a record, or a unique part of its key.", autocompletion=words.records)
    ],
    to: Annotated[Path, typer.Option("--to", help="New folder of the agent.")],
    format_: Annotated[
        str, typer.Option("--format", help="safetensors, torch, onnx, or several of them, separated by commas.")
    ] = "safetensors",
    results: Annotated[Path, typer.Option(help="Folder of records and checkpoints.")] = Path("results"),
    trust: Trust = False,
) -> None:
    """Write a trained agent to a folder: weights, settings, record and card; also as a program of torch or ONNX."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
    from backbench.benchmarks.export.write import Request as Asked
    from backbench.benchmarks.export.write import export as write

    formats = tuple(word.strip() for word in format_.split(","))
    for line in write(Asked(str(storage.pull(record)), to, formats, storage.pull(results), trust)):
        terminal.line(line)


def ui(
    out: Results = Path("results"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Open MLflow's page on the results, on this machine only, and print a link to the cells' scores."""
    from backbench.benchmarks.run.sinks.mlflow import ARTIFACTS, DATABASE, experiment_id, relocate
    from backbench.benchmarks.run.sinks.mlflow_view import link

    out = storage.folder(out)
    database = out.absolute() / DATABASE
    if not database.is_file():
        raise UserError(f"no tracking database {out / DATABASE}; run something first, or name its folder with --out")
    artifacts = out.absolute() / ARTIFACTS
    with suppress(sqlite3.Error):  # a database that may only be read is shown as it is
        relocate(database, artifacts)
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    terminal.line(f"MLflow on http://127.0.0.1:{port} (Ctrl-C ends it)")
    if (experiment := experiment_id(database)) is not None:
        terminal.line(f"Cells by backbone, with scores: {link(port, experiment)}")
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    store = ["--backend-store-uri", path_url(database, SQLITE), "--default-artifact-root", path_url(artifacts)]
    store += ["--artifacts-destination", path_url(artifacts)]  # else uploads land in the working folder
    os.execv(sys.executable, [*command, *store])


# A command has as many parameters as flags.
def verify(
    backbone: Annotated[
        str, typer.Argument(help="Backbone of the row, as in bench run.", autocompletion=words.backbones)
    ],
    overrides: Annotated[list[str] | None, typer.Argument(help="The row's overrides of the preset.")] = None,
    seeds: Annotated[str, typer.Option(help="Seeds that the row does not have, such as 10-19.")] = "10-19",
    suite: Annotated[str, typer.Option(help="The row's suite.", autocompletion=words.suites)] = "d4rl",
    preset: Annotated[str, typer.Option(help="The row's preset.", autocompletion=words.presets)] = "quick",
    data: Annotated[str, typer.Option(help="The row's data source.", autocompletion=words.sources)] = "",
    records: Annotated[Path, typer.Option(help="The leaderboard's folder of records.")] = RECORDS,
    jobs: Annotated[int, typer.Option(min=0, help="Cells side by side. 0: one per core, or per GPU.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder of the new records.")] = Path("verified"),
) -> None:
    """Run a row with other seeds and compare the means: verified, consistent or different (then exit 1).

    Run the same command again to resume. `bench submit verified --verification` adds the records.
    """
    from backbench.benchmarks.plan.compose import plan
    from backbench.benchmarks.replay import verify as rows
    from backbench.benchmarks.run import provenance
    from backbench.benchmarks.run.results import finished
    from backbench.benchmarks.run.runner import remaining

    names = words.backbone_names(backbone)
    if len(names) != 1:
        raise UserError(f"'{backbone}': give the backbone of one row")
    asked = words.seeds(seeds, 10_000)
    request = Request(names, suite, preset, seeds=asked, source=data or None, overrides=tuple(overrides or ()))
    cells = plan(request)
    if len({cell.variant for cell in cells}) > 1:
        raise UserError("the overrides make more than one row; give no comma lists")
    published = rows.PublishedRow.row_of(cells, records)
    published.check_versions(provenance.packages())
    published.check_data()
    out = storage.pull(out)
    where = Where(jobs, device, out)
    left = remaining(cells, out)
    status = carry_out(request, where, cells, left, on_terminal())[0].status if left else 0
    if status > 128:
        raise typer.Exit(status)
    found = [finished(cell, out) for cell in cells]
    new = [record for record in found if record is not None]
    if len(new) < len(cells):
        raise UserError(f"{len(cells) - len(new)} of {len(cells)} cells failed, so there is no verdict; see above")
    raise typer.Exit(rows.compare(published, new))
