"""Simulated processes that claim one cell, train it and record it, in an order that a test draws.

Each worker is a thread that stops before each operation on the file system; one at a time goes on. Between two
operations any time may pass on each worker's own clock, a worker may be paused for as long as the test likes, and it
may die. The code under test is the product's; only clocks, names of processes and flushes to disk are the test's.

With ``remote`` the results are objects in fsspec's memory, each machine has a mirror, and the server loses requests and
answers.
"""

from __future__ import annotations

import json
import os
import random
import threading
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from fsspec.implementations.memory import MemoryFileSystem
from record_factory import make_record
from safetensors.numpy import save_file

from backbench import claims, files, storage
from backbench.benchmarks.run import results as results_module
from backbench.leaderboard.record.files import load_record
from backbench.leaderboard.record.schema import Record

STEPS = 3  # of a training


@dataclass
class TheCell:
    """What the product asks of a cell here."""

    key: str = "mlp.hopper"

    def record_path(self, results: Path) -> Path:
        return results / "records" / f"{self.key}.json"

    def checkpoint_folder(self, results: Path) -> Path:
        return results / "checkpoints" / self.key


class Dead(BaseException):
    """The worker dies here: no handler of the product runs, as with SIGKILL."""


@dataclass
class Worker:
    """One simulated process."""

    number: int
    machine: int
    world: World
    offset: float
    rate: float
    alive: bool = True
    over: bool = False
    killed: bool = False
    trained: int = 0  # updates in all attempts
    holds: bool = False
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def clock(self) -> float:
        """A clock of its own, which started anywhere and may be fast or slow."""
        return self.offset + self.rate * self.world.now

    def lives(self, name: str) -> bool | None:
        """As ``owner.lives``: known on the same machine only."""
        other = next((w for w in self.world.workers if w.name == name), None)
        return other.alive if other is not None and other.machine == self.machine else None

    @property
    def name(self) -> str:
        return f"worker-{self.number}"

    def turn(self) -> None:
        """Give the others a chance, and die if the test says so."""
        self.world.back.release()
        self.go.acquire()
        if self.killed:
            self.alive = False
            raise Dead

    def run(self) -> None:
        """The thread: work until there is a record."""
        self.go.acquire()
        self.world.local.worker = self
        try:
            while self.world.record() is None:
                self.attempt()
                self.turn()
        except Dead:
            pass
        except BaseException as error:
            self.world.errors.append(error)
        finally:
            self.over, self.holds = True, False
            self.world.back.release()

    def attempt(self) -> None:
        """What ``Queue`` and ``run_claimed`` do, without training."""
        cell, root = self.world.cell, self.root
        try:
            claim = claims.take(cell.checkpoint_folder(root), self.observer)
        except (claims.Held, storage.StorageError):
            return
        try:
            self.hold()
            claim.disk.fetch(cell.record_path(root))
            if cell.record_path(root).exists():
                claim.remove()
                return
            claim.disk.fetch_newest(claim.home, ("state.pt",), bool)
            done = max((self.read(e / "state.pt") for e in claims.epochs(claim.home)), default=0)
            for step in range(done, STEPS):
                self.trained += 1
                claim.beat()
                with claim.writing():
                    files.write_whole(claim.folder / "state.pt", json.dumps({"step": step + 1, "by": self.name}))
                if claim.disk.push(claim.folder / "state.pt"):
                    claim.prune("state.pt")
            about = {"sha256": f"{self.number:064d}", "by": self.name}
            weights = {"w": np.full(2, self.number, np.float32)}
            with claim.writing():
                files.write_whole(claim.folder / "last.safetensors", lambda path: save_file(weights, path, about))
            claim.disk.push(claim.folder / "last.safetensors")
            results_module.accept(cell, root, self.record(), claim)  # type: ignore[arg-type]
        except (claims.Lost, storage.StorageError):
            pass
        finally:
            self.holds = False
            if self.alive:
                claim.release()

    def hold(self) -> None:
        """Nobody else holds the claim, unless its owner slept or died."""
        others = [w for w in self.world.workers if w.holds and w.alive]
        self.holds = True
        self.world.overlaps += bool(others)

    def read(self, path: Path) -> int:
        text = self.world.read(path)
        return 0 if text is None else int(json.loads(text)["step"])

    def record(self) -> Record:
        made = make_record(seed=self.number)
        provenance = made.provenance.model_copy(update={"weights_sha256": f"{self.number:064d}"})
        return made.model_copy(update={"provenance": provenance})

    def __post_init__(self) -> None:
        self.root = self.world.results / f"machine-{self.machine}" if self.world.url else self.world.results
        disk = storage.Objects(self.world.url, self.root) if self.world.url else claims.FILES
        self.observer = claims.Observer(lambda: self.name, self.clock, self.lives, disk)


class World:
    """One cell in one folder of results, and its workers."""

    def __init__(self, results: Path, draw: random.Random, workers: int, *, sleepy: bool, remote: bool = False) -> None:
        """``sleepy``: time passes, so that claims of living workers expire on other machines."""
        self.results, self.draw, self.sleepy = results, draw, sleepy
        self.url = f"memory://world-{uuid.uuid4().hex}" if remote else ""
        self.losses = 0.03 if sleepy else 0.0  # chance that a request or an answer is lost
        self.cell = TheCell()
        self.now, self.overlaps = 0.0, 0
        self.local = threading.local()
        self.back = threading.Semaphore(0)
        self.workers: list[Worker] = []
        self.errors: list[BaseException] = []
        for number in range(workers):
            offset, rate = draw.uniform(-1e6, 1e6), draw.choice([0.5, 1.0, 1.0, 2.0]) if sleepy else 1.0
            self.workers.append(Worker(number, draw.randrange(2), self, offset, rate))
        self.seen: bytes | None = None

    def run(self, kill: float) -> None:
        """Until every worker is done or dead; ``kill`` is the chance of a death at each operation, but for the last."""
        with ExitStack() as stack:
            for target, name in (
                (claims.Disk, "read"), (claims, "epochs"), (claims, "create_whole"), (os, "replace"), (os, "link"),
                (os, "unlink"), (os, "rmdir"), (os, "mkdir"),
            ):  # fmt: skip
                stack.enter_context(patch.object(target, name, self.stepwise(getattr(target, name))))
            stack.enter_context(patch.object(os, "fsync", lambda handle: None))
            stack.enter_context(patch.object(storage, "_bounded", self.request))
            stack.enter_context(patch.object(storage, "PAUSES", (0.0, 0.0)))
            stack.enter_context(patch.object(storage.terminal, "line", lambda *_, **__: None))
            threads = [threading.Thread(target=worker.run, daemon=True) for worker in self.workers]
            for thread in threads:
                thread.start()
            while waiting := [worker for worker in self.workers if not worker.over]:
                worker = self.draw.choice(waiting)
                if len([w for w in self.workers if w.alive]) > 1 and self.draw.random() < kill:
                    worker.killed = True
                self.now += self.draw.choice([0.0, 0.01, 1.0, 40.0, 300.0]) if self.sleepy else 0.01
                worker.go.release()
                self.back.acquire()
                self.look()
            for thread in threads:
                thread.join(10)
        for error in self.errors:
            raise error

    def stepwise(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with a turn of other workers before it."""

        def call(*arguments: Any, **named: Any) -> Any:
            if (worker := getattr(self.local, "worker", None)) is not None and worker.alive:
                worker.turn()
            return function(*arguments, **named)

        return call

    def request(self, act: Callable[[], Any], seconds: float) -> Any:
        """A request to the server, which or whose answer may be lost."""
        if (worker := getattr(self.local, "worker", None)) is not None and worker.alive:
            worker.turn()
            lost = self.draw.random()
            if lost < self.losses:
                raise OSError("the request was lost")
            answer = act()
            if lost > 1 - self.losses:
                raise OSError("the answer was lost")
            return answer
        return act()

    def read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def content(self, name: str) -> bytes | None:
        """What everybody can read under a name below the results."""
        if not self.url:
            return self.read(self.results / name)
        there = MemoryFileSystem.store.get(f"/{self.url.removeprefix('memory://')}/{name}")
        return None if there is None else bytes(there.getvalue())

    def names(self) -> list[str]:
        """Everything that everybody can read."""
        if not self.url:
            return sorted(p.relative_to(self.results).as_posix() for p in self.results.rglob("*") if p.is_file())
        start = f"/{self.url.removeprefix('memory://')}/"
        return sorted(name.removeprefix(start) for name in MemoryFileSystem.store if name.startswith(start))

    def record(self) -> bytes | None:
        """The cell's record, for everybody."""
        return self.content(f"records/{self.cell.key}.json")

    def look(self) -> None:
        """What holds at every moment: a record that is there stays as it is; an epoch has its owner's files only."""
        text = self.record()
        assert self.seen is None or text == self.seen, "the record changed"
        self.seen = text
        for name in self.names() if text is None else ():  # with a record, a number of an epoch may come again
            folder, _, last = name.rpartition("/")
            claim, state = self.content(f"{folder}/{claims.FILE}"), self.content(f"{folder}/state.pt")
            if last == claims.FILE and claim and state:
                assert json.loads(claim)["owner"] == json.loads(state)["by"], "another's checkpoint"

    def end(self) -> Record:
        """After the next run has tidied: the record, whose weights are there, and nothing else."""
        for worker in self.workers:
            worker.alive = False
        environment = {"BACKBENCH_MIRRORS": str(self.results / "new-machine")}
        with patch.object(files.owner, "lives", lambda name: False), patch.dict(os.environ, environment):
            root = storage.pull(self.url or self.results)
            results_module.tidy([self.cell], root)  # type: ignore[list-item]
        record, weights = (
            load_record(self.cell.record_path(root)),
            self.cell.checkpoint_folder(root) / "last.safetensors",
        )
        storage.disk(root).fetch(weights)
        assert results_module.digest_in(weights) == record.provenance.weights_sha256
        left = self.names()
        assert left == [f"checkpoints/{self.cell.key}/last.safetensors", f"records/{self.cell.key}.json"], left
        return record
