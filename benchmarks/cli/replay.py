"""``bench reproduce``, ``bench watch`` and ``bench ui``: a second look at what has run."""

import os
import sqlite3
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from backbench import terminal
from backbench.benchmarks.cli import words
from backbench.benchmarks.cli.run import Results
from backbench.errors import UserError
from backbench.text import SQLITE, path_url

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
    raise typer.Exit(again(record, out, to if submit else None, trust=trust).status)


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

    for line in play(Request(record, results, episode, target, out, frames, video, max_steps, trust)):
        terminal.line(line)


def ui(
    out: Results = Path("results"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
) -> None:
    """Open MLflow's page on the results, on this machine only, and print a link to the cells' scores."""
    from backbench.benchmarks.run.sinks.tracking import ARTIFACTS, DATABASE, experiment_id, relocate
    from backbench.benchmarks.run.sinks.tracking_view import link

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
