"""Who hears what happens in a run: the terminal, and a log in another program."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from backbench.benchmarks.run.sinks.log import Log
from backbench.errors import UserError, suggest

ADDRESSES = ("databricks", "uc")  # of MLflow's, of one word
OTHERS = {"tensorboard": "tensorboard", "wandb": "wandb"}  # first word of --track -> the package that it needs


def open_log(track: str, results: Path, warn: Callable[[str], None]) -> Log[Any]:
    """The log that ``--track`` names: ``none``, ``tensorboard[:FOLDER]``, ``wandb[:PROJECT]``, or a tracking URI of
    MLflow's; empty: MLflow's database in ``results``. Nothing is written before its ``start``.

    Raises:
        UserError: its package is missing, or it would have to ask for a key.
    """
    kind, _, rest = track.partition(":")
    if (package := OTHERS.get(kind)) and find_spec(package) is None:
        raise UserError(f"--track {kind} needs the package {package}; install it: pip install 'backbench[{kind}]'")
    if kind == "tensorboard":
        from backbench.benchmarks.run.sinks.tensorboard import FOLDER, TensorBoard

        return TensorBoard(Path(rest) if rest else results / FOLDER, warn=warn)
    if kind == "wandb":
        from backbench.benchmarks.run.sinks.wandb import PROJECT, WandB

        return WandB(results, rest or PROJECT, warn=warn)
    word = track.isidentifier() and not Path(track).is_dir()  # what is no address and no folder is a slip
    if word and track.lower() not in ("none", *ADDRESSES):
        said = f"--track {track} is no log, and an address of MLflow's is such as sqlite:///mlflow.db or ./folder"
        raise UserError(f"{said}{suggest(track, ['none', *OTHERS])}")
    from backbench.benchmarks.run.sinks.mlflow import MLflow

    log = MLflow(results, track or None, warn=warn)
    log.active = track.lower() != "none"
    return log
