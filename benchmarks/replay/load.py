"""From a record back to its cell and its trained agent, without the data set."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from backbench.agents.agent import Agent
from backbench.agents.heads import HEADS
from backbench.benchmarks.data.trajectories import Trajectories
from backbench.benchmarks.plan.assemble import make_agent
from backbench.benchmarks.plan.settings import Cell
from backbench.errors import UserError, require
from backbench.leaderboard.record.files import RecordError, load_record
from backbench.leaderboard.record.schema import Record

OTHER_VERSION = "another version of Backbench wrote them; run the cell again"


def find_record(name: str, results: Path) -> tuple[Record, Path]:
    """The record that ``name`` is the path of, or whose key in ``results`` holds ``name``; and its folder of results.

    Raises:
        UserError: there is none, or more than one, or its file is broken.
    """
    path = Path(name)
    if not path.is_file():
        there = sorted(p for p in (results / "records").glob("*.json") if not p.name.startswith("."))
        path = _only([p for p in there if name == p.stem] or [p for p in there if name in p.stem], name, there, results)
    folder = path.resolve().parent
    try:
        return load_record(path), path.parent.parent if folder.name == "records" else results
    except RecordError as error:
        raise UserError(str(error)) from error


def _only(matches: list[Path], name: str, there: list[Path], results: Path) -> Path:
    if not there:
        raise UserError(f"no record '{name}': there is none in {results / 'records'}; name its folder with --results")
    if not matches:
        close = get_close_matches(name, [p.stem for p in there], n=1)
        guess = f"; did you mean {close[0]}?" if close else f"; one of them is {there[0].stem}"
        raise UserError(f"no record '{name}' among the {len(there)} in {results / 'records'}{guess}")
    if len(matches) > 1:
        shown = ", ".join(p.stem for p in matches[:4]) + (", …" if len(matches) > 4 else "")
        raise UserError(f"'{name}' is part of {len(matches)} keys: {shown}; give more of one")
    return matches[0]


def cell_of(config: Mapping[str, Any]) -> Cell:
    """The cell whose ``resolved()`` is ``config``, as it stands in a record's provenance.

    Raises:
        UserError: a setting that is unknown, missing, or no value of its type; names it.
    """
    cell: Cell = _build(Cell, config, "")
    return cell


def _build(cls: type, content: Any, where: str) -> Any:
    """A dataclass from plain values, which stay as they are: 1 is not made 1.0, since keys tell them apart."""
    require(isinstance(content, Mapping), f"settings {where or 'of the record'} are {content!r}; {OTHER_VERSION}")
    names = [field.name for field in dataclasses.fields(cls)]
    for what, wrong in (
        ("unknown", [str(name) for name in content if name not in names]),
        ("missing", [name for name in names if name not in content]),
    ):
        dotted = ", ".join(f"{where}{name}" for name in wrong)
        require(not wrong, f"settings of the record: {what} {dotted}; {OTHER_VERSION}")
    hints = typing.get_type_hints(cls)
    return cls(**{name: _value(hints[name], content[name], f"{where}{name}") for name in names})


def _value(hint: Any, value: Any, where: str) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = typing.get_args(hint)
        if value is None and type(None) in members:
            return None
        (hint,) = (member for member in members if member is not type(None))
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return _build(hint, value, f"{where}.")
    kind = typing.get_origin(hint) or hint
    if kind is tuple and isinstance(value, list):
        return tuple(_value(typing.get_args(hint)[0], one, where) for one in value)
    fits = isinstance(value, int | float if kind is float else kind) and (kind is bool or not isinstance(value, bool))
    require(fits, f"settings of the record: {where} is {value!r}; {OTHER_VERSION}")
    return dict(value) if isinstance(value, Mapping) else value


def load_agent(cell: Cell, path: Path, head: str | None = None) -> Agent:
    """The cell's agent with the weights in ``path``, on the CPU, in evaluation mode.

    What else depends on the data (size of states and actions, their statistics, longest episode) the weights hold too.
    The global generator is seeded by the cell, as it is for a fresh agent. ``head`` is the name of the record's action
    head; None for records that do not name it.

    Raises:
        UserError: no such file, a broken one, or weights of another cell.
    """
    from safetensors import SafetensorError, safe_open

    require(path.is_file(), f"no weights {path}; run the cell again, or bring its folder of checkpoints")
    try:
        with safe_open(path, framework="pt") as file:
            owner = (file.metadata() or {}).get("cell")
            weights: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"weights {path} cannot be read ({_line(error)}); move them away and run the cell again"
        ) from error
    require(owner == cell.key, f"weights {path} are of cell {owner}, not of {cell.key}; bring the right ones")
    try:
        agent = make_agent(cell, _shapes(cell, weights, head))
        agent.load_state_dict(weights)
    except (KeyError, RuntimeError) as error:
        raise UserError(
            f"weights {path} do not fit the agent of {cell.key} ({_line(error)}); another version of Backbench wrote "
            "them: run the cell again"
        ) from error
    return agent.eval()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def _shapes(cell: Cell, weights: Mapping[str, Tensor], head: str | None) -> Trajectories:
    """One episode of nothing, with the shapes that the weights were trained on."""
    actions = weights["tokenizer.embed_action.weight"]
    rows = len(weights["tokenizer.embed_timestep.weight"])
    # Older records do not name their head. Of the two heads of that time, only the categorical one has no bias.
    discrete = HEADS.get(head).discrete if head else "head.project.bias" not in weights
    return Trajectories(
        states=np.zeros((1, *cell.kind.state_shape(weights)), dtype=np.float32),
        actions=np.zeros(1, dtype=np.int64) if discrete else np.zeros((1, actions.shape[1]), dtype=np.float32),
        rewards=np.zeros(1),
        terminated=np.zeros(1, dtype=bool),
        offsets=np.array([0, rows]),
        n_actions=len(actions) if discrete else None,
    )
