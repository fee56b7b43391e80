"""The folder of an exported agent: what is in it, and how it is read.

``model.safetensors`` has the weights, ``config.json`` what a program needs to play, ``record.json`` the record, and
``README.md`` is the card. Nothing in it is unpickled.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from backbench import __version__, reading
from backbench.agents.agent import Agent
from backbench.agents.encoders import VectorEncoder
from backbench.benchmarks.environments import spaces
from backbench.benchmarks.environments.vector import GymBatch
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.replay.load import head_of
from backbench.errors import UserError, require
from backbench.files import temporary_name
from backbench.leaderboard.record.files import RecordError, load_record
from backbench.leaderboard.record.schema import Record

FORMAT = 1  # of config.json
WEIGHTS, CONFIG, CARD, RECORD = "model.safetensors", "config.json", "README.md", "record.json"
AGAIN = "export the agent again, or fetch the folder from where it was published"


class Exported(NamedTuple):
    """An exported agent that has been checked, but for the weights' content."""

    record: Record
    weights: Path  # `replay.load.load_agent` compares their digest with the record's


def is_export(path: Path) -> bool:
    """Whether ``path`` is a folder with the settings and the record of an exported agent."""
    return (path / CONFIG).is_file() and (path / RECORD).is_file()


def read(folder: Path) -> Exported:
    """The record and the weights of an exported agent.

    Raises UserError: a file is missing or broken, of another version, or not that of the others.
    """
    require(folder.is_dir(), f"no folder {folder}; bench export RECORD --to FOLDER makes one")
    for name in (CONFIG, RECORD, WEIGHTS):
        require((folder / name).is_file(), f"{folder} has no {name}, so no agent can be loaded from it; {AGAIN}")
    try:
        said = reading.read_json(folder / CONFIG, reading.MB)
    except reading.ReadingError as error:
        raise UserError(f"{error}; {AGAIN}") from error
    require(isinstance(said, Mapping), f"{folder / CONFIG} is no mapping; {AGAIN}")
    version = said.get("format")
    require(
        type(version) is int and version == FORMAT,
        f"{folder / CONFIG}: format {version!r} is of another version, this release reads {FORMAT}; load it with the "
        f"release of backbench that wrote it ({str(said.get('backbench', 'unknown'))[:20]}), or export the agent again",
    )
    try:
        record = load_record(folder / RECORD)
    except RecordError as error:
        raise UserError(f"{error.path}: {error.problem}; {AGAIN}") from error
    require(
        said.get("sha256") == content_digest(said),
        f"{folder / CONFIG} is not as it was exported: its sha256 is another; {AGAIN}",
    )
    facts = {"key": record.key, "weights_sha256": record.provenance.weights_sha256, "cell": record.provenance.config}
    for name, value in facts.items():
        same = said.get(name) == value
        require(same, f"{folder / CONFIG}: {name} is not that of {RECORD}; one of the two was changed: {AGAIN}")
    return Exported(record, folder / WEIGHTS)


def content_digest(said: Mapping[str, Any]) -> str:
    """What ``sha256`` in config.json says: the SHA-256 of all else in it, as JSON with sorted keys and no spaces."""
    content = {name: value for name, value in said.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def config(record: Record, cell: Cell, agent: Agent) -> dict[str, Any]:
    """What a program needs to play. Scales and statistics are the agent's own; its graphs have them inside."""
    encoder = agent.tokenizer.encoder
    scales = (encoder.mean, encoder.std) if isinstance(encoder, VectorEncoder) else None
    return {
        "format": FORMAT,
        "model_type": "backbench",
        "backbench": __version__,
        "key": record.key,
        "weights_sha256": record.provenance.weights_sha256,
        "head": head_of(record),
        "acting": cell.eval.acting,
        "context": cell.model.context,
        "window_timestep": cell.eval.timestep,
        "tokens": list(agent.tokenizer.kinds),
        "targets": list(record.protocol.targets),
        "rewards": cell.task.rewards,
        "return_scale": cell.task.return_scale,
        "normaliser": {"mean": scales[0].tolist() if scales else None, "std": scales[1].tolist() if scales else None},
        "environment": {"id": cell.task.env_id, "kwargs": dict(cell.task.env_kwargs), "max_steps": cell.max_steps},
        **_spaces(cell, agent),
        "cell": record.provenance.config,
    }


def _spaces(cell: Cell, agent: Agent) -> dict[str, Any]:
    """What the agent sees and does, in the environment's units. UserError if the environment cannot be made here."""
    size, seen = agent.head.project.out_features, cell.task.observe
    action: dict[str, Any] = {"size": size, "discrete": agent.head.discrete, "temperature": cell.eval.temperature}
    with closing(cell.kind.make(cell.environment, 1)) as batch:
        if not isinstance(batch, GymBatch):
            shape = [int(one) for one in cell.kind.sizes(cell.environment).state_shape]
            return {"observation": {"shape": shape, "dtype": "uint8"}, "action": {**action, "start": 0}}
        ends = {"low": batch.actions.low.tolist(), "high": batch.actions.high.tolist()}
        observation = {
            "shape": [int(one) for one in batch.sizes.state_shape],
            "dtype": "float32",
            "space": type(batch.space).__name__,
            "parts": spaces.describe(batch.space),
            "keep": list(seen.keep) if seen else [],
            "missing": seen.missing if seen else 0.0,
        }
        own = {"start": batch.actions.start} if agent.head.discrete else ends
        return {"observation": observation, "action": {**action, **own}}


def digest(path: Path) -> str:
    """sha256 of a file that this process wrote."""
    hasher = hashlib.sha256()
    with reading.opened(path, 64 * 1024 * reading.MB) as file:
        while part := file.read(reading.MB):
            hasher.update(part)
    return hasher.hexdigest()


class NewFolder:
    """A folder that is complete or not there: it is written under another name, and moved into place at the end.

    Raises UserError if ``target`` has something in it, or cannot be made.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.absolute().with_name(temporary_name(target.absolute().name))

    def __enter__(self) -> Path:
        there = os.path.lexists(self.target)
        empty = self.target.is_dir() and not any(self.target.iterdir())
        require(not there or empty, f"{self.target} is there already; give the name of a new folder with --to")
        try:
            self.path.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"cannot write {self.target}: {error.strerror}; choose another folder with --to") from error
        return self.path

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                os.rename(self.path, self.target.absolute())  # onto an empty folder, too
        finally:
            shutil.rmtree(self.path, ignore_errors=True)
