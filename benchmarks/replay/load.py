"""Load a record's cell and its trained agent. The data set is not needed."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from torch import Tensor

from backbench import reading, storage
from backbench.agents.agent import Agent
from backbench.agents.heads import HEADS, TanhHead
from backbench.benchmarks.data.trajectories import Trajectories
from backbench.benchmarks.plan.assemble import make_agent
from backbench.benchmarks.plan.from_json import OTHER_VERSION
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run.checkpoint import weights_digest
from backbench.errors import UserError, one_line, require
from backbench.leaderboard.record.files import RecordError, load_record
from backbench.leaderboard.record.schema import Record
from backbench.reading import check_safetensors


def find_record(name: str, results: Path) -> tuple[Record, Path]:
    """Find a record by its path, or in ``results`` by a part of its key; returns it with its folder of results.

    Raises UserError: no such record, more than one, or a broken file.
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
        raise UserError(f"no record '{name}': {results / 'records'} has no records; name their folder with --results")
    if not matches:
        close = get_close_matches(name, [p.stem for p in there], n=1)
        guess = f"; did you mean {close[0]}?" if close else f"; one of them is {there[0].stem}"
        raise UserError(f"no record '{name}' among the {len(there)} in {results / 'records'}{guess}")
    if len(matches) > 1:
        shown = ", ".join(p.stem for p in matches[:4]) + (", …" if len(matches) > 4 else "")
        raise UserError(f"'{name}' is part of {len(matches)} keys: {shown}; give a longer part of one")
    return matches[0]


def head_of(record: Record) -> str:
    """Name of the record's action head. Older records do not name it, but how it samples."""
    protocol = record.protocol
    return protocol.head or ("tanh" if protocol.sampling == TanhHead.sampling_at(1.0) else "categorical")


AGAIN = "move them away and run the cell again"


def load_agent(cell: Cell, path: Path, head: str, digest: str | None = None, remedy: str = AGAIN) -> Agent:
    """The cell's agent with the weights in ``path``, on the CPU, in evaluation mode.

    The weights also hold what depends on the data: sizes of states and actions, statistics, longest episode. The global
    generator is seeded by the cell, as for a fresh agent. ``head`` names the action head, see ``head_of``. ``digest``
    is the record's ``weights_sha256``; None takes the one that the file itself has. Raises UserError: no such file, a
    damaged one, or other weights. ``remedy`` is what to do about it.
    """
    from safetensors import SafetensorError, safe_open

    storage.disk(path.parent.parent.parent).fetch(path)
    require(path.is_file(), f"no weights {path}; run the cell again, or fetch its folder of checkpoints")
    pointer = path.stat().st_size < 1024 and reading.content(path, 1024).startswith(b"version https://git-lfs")
    require(not pointer, f"weights {path} are a pointer of Git LFS; fetch the file that it names with: git lfs pull")
    try:
        check_safetensors(path)
        with safe_open(path, framework="pt") as file:
            said = file.metadata() or {}
            weights: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, UserError) as error:
        reason = one_line(error, 160)
        raise UserError(f"weights {path} cannot be read ({reason}); {remedy}") from error
    owner = said.get("cell")
    require(owner == cell.key, f"weights {path} are of cell {owner}, not of {cell.key}; fetch the right ones")
    require(
        weights_digest(weights) == (digest or said.get("sha256")),
        f"weights {path} are not those that the record was made with; {remedy}",
    )
    try:
        timesteps = len(weights.get("tokenizer.embed_timestep.weight", ()))
        agent = make_agent(cell, _shapes(cell, weights, head), timesteps, head)
        agent.load_state_dict(weights)
    except (KeyError, RuntimeError) as error:
        reason = one_line(error, 160)
        raise UserError(f"weights {path} do not fit the agent of {cell.key} ({reason}); {OTHER_VERSION}") from error
    return agent.eval()


def _shapes(cell: Cell, weights: Mapping[str, Tensor], head: str) -> Trajectories:
    """One episode of nothing, with the shapes that the weights were trained on."""
    actions = weights["head.project.weight"]  # (size, d_model)
    discrete = HEADS.get(head).discrete
    return Trajectories(
        states=np.zeros((1, *cell.kind.state_shape(weights)), dtype=np.float32),
        actions=np.zeros(1, dtype=np.int64) if discrete else np.zeros((1, len(actions)), dtype=np.float32),
        rewards=np.zeros(1),
        terminated=np.zeros(1, dtype=bool),
        offsets=np.array([0, 1]),
        n_actions=len(actions) if discrete else None,
    )
