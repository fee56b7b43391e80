"""``backbench.load_agent``: from a record, or a folder of checkpoints, to an agent that plays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from backbench import storage
from backbench.benchmarks.api.player import Player
from backbench.benchmarks.api.senses import spaces_of
from backbench.benchmarks.export.folder import AGAIN, is_export, read
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.replay.load import AGAIN as RUN_AGAIN
from backbench.benchmarks.replay.load import find_record, head_of
from backbench.benchmarks.replay.load import load_agent as load_weights
from backbench.benchmarks.replay.trust import cell_to_run
from backbench.benchmarks.run.cell import choose_device
from backbench.benchmarks.run.checkpoint import LAST
from backbench.errors import require
from backbench.leaderboard.record.schema import Record


def load_agent(
    where: str | Path | Record,
    results: str | Path = "results",
    *,
    device: str = "cpu",
    acting: str | None = None,
    trust: bool = False,
) -> Player:
    """A trained agent to play with, from a record and its checkpoint. The data set is not needed.

        agent = backbench.load_agent("gloma.hopper-medium")            # a part of one key in results/
        env = gymnasium.make("Hopper-v5")
        agent.check(env)
        agent.reset(target=3600)
        observation, reward, done = env.reset(seed=0)[0], None, False
        while not done:
            observation, reward, terminated, truncated, _ = env.step(agent.act(observation, reward))
            done = terminated or truncated

    Args:
        where: path of a record, a part of its key, a folder of checkpoints (``results/checkpoints/KEY``), a folder that
            ``bench export`` wrote, an address of the first or the third, or a record.
        results: folder of results or its address, where ``where`` does not say it.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        acting: ``window`` or ``recurrent`` instead of the record's protocol.
        trust: run what the record names even if it is not installed (docs/security.md).

    Raises:
        UserError: no such record; the cell failed; no weights, or others than the record was made with; the backbone
            or the environment is not installed.
    """
    usable = isinstance(where, Record | Path) or (isinstance(where, str) and where.strip())
    require(bool(usable), f"load_agent: {where!r}; give a record, its path or a part of its key, or a folder")
    if not isinstance(where, Record) and is_export(Path(where)):
        return from_pretrained(where, device=device, acting=acting, trust=trust)
    record, folder = _found(where if isinstance(where, Record) else storage.pull(where), storage.pull(results))
    require(record.scores is not None, f"{record.key} failed, so it has no weights; run the cell again")
    cell = cell_to_run(record, record.key, trust)
    return _player(record, cell, cell.checkpoint_folder(folder) / LAST, device, acting)


def from_pretrained(
    folder: str | Path, *, device: str = "cpu", acting: str | None = None, trust: bool = False
) -> Player:
    """The agent in a folder that ``bench export`` wrote, as ``load_agent`` gives it. Asks no hub.

        agent = backbench.from_pretrained("agent")

    Args:
        folder: the folder; the digest of its weights must be that of its record.
        device, acting, trust: as in ``load_agent``.

    Raises:
        UserError: no such folder; a file in it is missing, damaged, changed or of another version; the backbone or the
            environment is not installed.
    """
    record, weights = read(Path(folder))
    require(record.scores is not None, f"{folder}: its cell failed, so there is no agent; {AGAIN}")
    return _player(record, cell_to_run(record, folder, trust), weights, device, acting, AGAIN)


def _player(
    record: Record, cell: Cell, weights: Path, device: str, acting: str | None, remedy: str = RUN_AGAIN
) -> Player:
    played = cell if acting is None else replace(cell, eval=replace(cell.eval, acting=acting))
    spot = choose_device(device)
    with torch.random.fork_rng(devices=[]):  # a fresh agent seeds the global generator
        agent = load_weights(cell, weights, head_of(record), record.provenance.weights_sha256, remedy)
    return Player(record, played, agent.to(spot), spaces_of(cell))


def _found(where: str | Path | Record, results: Path) -> tuple[Record, Path]:
    """A record and its folder of results."""
    if isinstance(where, Record):
        return where, results
    path = Path(where)
    if path.parent.name == "checkpoints" or (path.is_dir() and any(path.glob("*.safetensors"))):
        of = path.resolve()
        record = of.parents[1] / "records" / f"{of.name}.json"
        require(
            record.is_file(), f"{path}: there is no record {record.name} beside the checkpoints; it has the settings"
        )
        return find_record(str(record), of.parents[1])
    return find_record(str(where), results)
