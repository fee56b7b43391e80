"""What is fuzzed: for each reader of foreign files, sound files to begin with, and how to read them."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backbench.errors import UserError
from backbench.leaderboard.record.files import Published, RecordError

SET = "toy/walk/medium-v0"
SUITE = """description: two walks
source: local
max_steps: 200
normaliser: declared
return_scale: 100
like: d4rl
observe: {keep: [0, 1], missing: 0.5}
tasks:
  near: &near
    reference: [-1200, -150]
    sources:
      local: {env_id: Pendulum-v1, data_id: me/p-v0}
  far:
    max_steps: 400
    reference: [0, 1]
    sources:
      local:
        env_id: 'walks:Walk-v0'
        env_kwargs: {goal: 30.0, maze: [[1, 0], [0, 1]]}
        data_id: me/w/far-v0
        targets: [1, 0.5]
"""


@dataclass(frozen=True)
class Target:
    """A reader. ``load`` gives a digest of what it read, or raises one of ``errors``.

    ``checked``: the files hold a digest, so what is read equals what was there before, or is refused.
    """

    files: tuple[Path, ...]  # of which one is changed at a time
    load: Callable[[], str]
    errors: tuple[type[Exception], ...] = (UserError,)
    checked: bool = False


class Refused(Exception):
    """What a reader reports instead of raising."""


def _sha(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _trajectories(data: Any) -> str:
    arrays = (data.actions, data.rewards, data.terminated, data.offsets)
    states = data.states if isinstance(data.states, np.ndarray) else np.concatenate([*data.states.blocks()])
    return _sha(data.digest.encode(), states.tobytes(), *(array.tobytes() for array in arrays))


def _record() -> Any:
    from whole_record import whole_record

    return whole_record("mlp", "hopper-medium", 0)


def record(folder: Path) -> Target:
    """A record alone: whatever is accepted can be put on a board."""
    from backbench.leaderboard.board.board import build_board
    from backbench.leaderboard.record.files import canonical, dump_record, load_record
    from backbench.leaderboard.trust.verify import doubts
    from backbench.leaderboard.views.text import to_markdown

    path = folder / "r.json"
    dump_record(_record(), path)

    def load() -> str:
        found = load_record(path)
        doubts(found)
        with suppress(ArithmeticError, ValueError):  # as `bench leaderboard --check` names it
            to_markdown(build_board([found]))
        return canonical(found)

    return Target((path,), load, (RecordError,))


def _checked_folder(folder: Path, verification: bool) -> Target:
    from backbench.leaderboard.check import check
    from backbench.leaderboard.record.files import canonical
    from backbench.leaderboard.trust.submit import place, place_of, verification_place

    published, made = Published(folder / "records"), _record()
    text = canonical(made)
    place({place_of(made): text}, published.records)
    files = [published.records / place_of(made), published.records / "SHA256SUMS"]
    if verification:
        place({verification_place(made, text): text}, published.verifications)
        files = [published.verifications / verification_place(made, text), published.verifications / "SHA256SUMS"]

    def load() -> str:
        report = check(published, pages=False)
        if report.problems:
            raise Refused(report.problems[0])
        return files[0].read_bytes().hex()

    return Target(tuple(files), load, (Refused,), checked=True)


def published_record(folder: Path) -> Target:
    """A record of the leaderboard and its checksum."""
    return _checked_folder(folder, verification=False)


def verification(folder: Path) -> Target:
    """A verification and its checksum."""
    return _checked_folder(folder, verification=True)


def retired_csv(folder: Path) -> Target:
    """The list of retired records."""
    from backbench.leaderboard.trust.history import read_retired

    (folder / "records").mkdir()
    path = folder / "retired.csv"
    path.write_text('key,reason,date\na.b,gone,2026-01-01\nc.d,"its, data",2026-01-02\n', encoding="utf-8")
    return Target((path,), lambda: repr(read_retired(Published(folder / "records"))), (RecordError,))


def suite_yaml(folder: Path) -> Target:
    """A user's suite."""
    from backbench.benchmarks.plan.suite_file import read

    path = folder / "mine.yaml"
    path.write_text(SUITE, encoding="utf-8")
    return Target((path,), lambda: repr(read(path)))


def speed_report(folder: Path) -> Target:
    """A report of ``bench speed``, as far as its readers get."""
    from backbench.benchmarks.speed.report import read

    path = folder / "speed.json"
    path.write_text('{"version": 1, "machine": {"cpu": "x"}, "models": [], "kernels": []}', encoding="utf-8")
    return Target((path,), lambda: repr(read(path)))


def minari_set(folder: Path) -> Target:
    """A data set in Minari's format, with the sidecar that holds its digest."""
    from gymnasium.spaces import Box, Dict, Discrete
    from hub_server import buffers, make

    from backbench.benchmarks.data import store
    from backbench.benchmarks.data.describe import examine

    os.environ["MINARI_DATASETS_PATH"] = str(folder)
    episodes = buffers([4, 6, 3])
    for e in episodes:
        object.__setattr__(e, "observations", {"a": e.observations, "kind": np.arange(len(e.rewards) + 1) % 3})
    spaces = Dict({"a": Box(-np.inf, np.inf, (5,), np.float64), "kind": Discrete(3)})
    make(folder, SET, episodes, spaces, Box(-1, 1, (2,)))
    store.write_sidecar(store.path_of(SET), store.load(SET), {"source": "test"})
    data = store.path_of(SET) / "data"

    def load() -> str:
        store.sidecar(SET)
        store.counts(SET)
        found = examine(store.path_of(SET), {})
        read = _trajectories(store.load(SET))
        assert not [f for f in found if f.level == "error"] or read
        return read

    files = (
        data / "main_data.hdf5",
        data / "main_data.hdf5",
        data / "metadata.json",
        store.path_of(SET) / store.SIDECAR,
    )
    return Target(files, load, checked=True)


def flat_copy(folder: Path) -> Target:
    """The copy of a data set that opens faster: it never changes what is read."""
    target = minari_set(folder)
    from backbench.benchmarks.data import store

    store.read(SET)
    return Target(
        (store.path_of(SET) / "flat.bin",), lambda: _trajectories(store.read(SET)), target.errors, checked=True
    )


def pixel_set(folder: Path) -> Target:
    """A data set of frames."""
    from backbench.benchmarks.data import store
    from backbench.benchmarks.data.store import framestore
    from backbench.benchmarks.data.trajectories import Episode

    os.environ["MINARI_DATASETS_PATH"] = str(folder)
    rng, name = np.random.default_rng(0), "toy/film-v0"
    frames = [rng.integers(0, 2, (n + 1, 84, 84), dtype=np.uint8) for n in (3, 2)]
    framestore.write(name, [Episode(f, np.arange(len(f) - 1), np.ones(len(f) - 1), True) for f in frames], 4, {})
    path = store.path_of(name)

    def load() -> str:
        return _trajectories(store.read(name))

    return Target((path / "frames.npy", path / "data" / "main_data.hdf5", path / store.SIDECAR), load, checked=True)


def d4rl_hdf5(folder: Path) -> Target:
    """A file of D4RL."""
    from d4rl_files import ARRAYS, FILE, write

    from backbench.benchmarks.data.sources import d4rl_hdf5 as reader

    path = write(folder / FILE, ARRAYS)

    def load() -> str:
        found = reader.read(path, 11, 3)
        return _sha(*(e.observations.tobytes() + e.rewards.tobytes() for e in found))

    return Target((path,), load)


def dqn_shards(folder: Path) -> Target:
    """The four files of a buffer of DQN-replay."""
    from replay_logs import KINDS, agent, name_of, write

    from backbench.benchmarks.data.download import Folder
    from backbench.benchmarks.data.sources import dqn_replay as reader

    logs = write(folder / "logs", agent([20, 30, 15, 40], 60, 49))

    def load() -> str:
        log = reader._log(Folder(logs), "breakout", 49)
        made = reader._episodes(Folder(logs), {49: log.episodes}, {49: log}, "breakout", lambda line: None)
        return _sha(*(e.observations.tobytes() + e.actions.tobytes() for e in made))

    return Target(tuple(logs / name_of(kind, 49) for kind in KINDS), load)


def _tiny() -> Any:
    from dataclasses import replace

    from backbench.benchmarks.plan import suites
    from backbench.benchmarks.plan.settings import Cell, ModelConfig

    task = replace(suites.resolve("d4rl", "hopper-medium", "embedded"), max_steps=20)
    return Cell("identity", task, "smoke", model=ModelConfig(d_model=8, n_layers=1, context=4))


def _agent(cell: Any) -> Any:
    from backbench.benchmarks.data.trajectories import Trajectories
    from backbench.benchmarks.plan.assemble import make_agent

    rng = np.random.default_rng(0)
    states, actions = rng.random((20, 11), np.float32), rng.random((20, 3), np.float32)
    ends = np.zeros(1, bool), np.array([0, 20])
    return make_agent(cell, Trajectories(states, actions, np.zeros(20), *ends))


def checkpoint(folder: Path) -> Target:
    """The state of a run that was interrupted."""
    import torch

    from backbench.benchmarks.run.checkpoint import load, save

    path = folder / "state.pt"
    agent = _agent(_tiny())
    state = {"progress": {"step": 3, "losses": [(1, 2.0)]}, "agent": agent.state_dict(), "rng": torch.get_rng_state()}
    save(path, state)
    return Target((path,), lambda: repr(load(path)), checked=True)


def weights(folder: Path) -> Target:
    """Trained weights, compared with the digest that their record holds."""
    from backbench.benchmarks.replay.load import load_agent
    from backbench.benchmarks.run.checkpoint import save_weights, weights_digest

    cell, path = _tiny(), folder / "last.safetensors"
    agent = _agent(cell)
    save_weights(path, agent.state_dict(), {"cell": cell.key})
    expected = weights_digest(agent.state_dict())

    def load() -> str:
        if weights_digest(load_agent(cell, path, "tanh").state_dict()) != expected:
            raise Refused("the digest differs")
        return expected

    return Target((path,), load, (UserError, Refused), checked=True)


def exported_folder(folder: Path) -> Target:
    """The settings and the record of an exported agent; `weights` are read by the same reader as those of a cell."""
    import json

    from backbench.benchmarks.export.folder import CONFIG, FORMAT, RECORD, WEIGHTS, content_digest, read
    from backbench.leaderboard.record.files import canonical, dump_record

    record = _record()
    dump_record(record, folder / RECORD)
    facts = {"key": record.key, "weights_sha256": record.provenance.weights_sha256, "cell": record.provenance.config}
    content = {"format": FORMAT, **facts}
    content["sha256"] = content_digest(content)
    (folder / CONFIG).write_text(json.dumps(content), encoding="utf-8")
    (folder / WEIGHTS).write_bytes(b"")
    return Target((folder / CONFIG, folder / RECORD), lambda: canonical(read(folder).record))


def cell_order(folder: Path) -> Target:
    """The cell that a process of its own is given."""
    from backbench.benchmarks.run.executors import Job, order
    from backbench.benchmarks.run.executors.worker import read_order

    job = Job(folder, "cpu", ("bench", "run"), {"mine": "some.module:Mine"})
    (path := folder / "1.cell").write_text(order(_tiny(), job), encoding="utf-8")
    return Target((path,), lambda: repr(read_order(path, folder, "cpu")))


TARGETS: dict[str, Callable[[Path], Target]] = {
    make.__name__: make
    for make in (
        record, published_record, verification, retired_csv, suite_yaml, speed_report, minari_set, flat_copy, pixel_set,
        d4rl_hdf5, dqn_shards, checkpoint, weights, exported_folder, cell_order,
    )
}  # fmt: skip


def restored(target: Target) -> dict[Path, bytes]:
    """The content of a target's files, to be put back."""
    return {path: path.read_bytes() for path in target.files}


def put(path: Path, content: bytes) -> None:
    """Write a file anew; an open or mapped one keeps its content."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def clean(folder: Path) -> None:
    """Remove a target's folder."""
    shutil.rmtree(folder, ignore_errors=True)
