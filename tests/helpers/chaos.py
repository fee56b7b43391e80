"""Kills processes at random moments, again and again, and looks at what they leave: ``python chaos.py 1000 [WORK …]``.

Five kinds of work share the kills. Each works in a folder of its own until it is done in spite of them. Right after a
kill no file may be torn. After the next undisturbed run the bits are those of a run without kills, and nothing is left
over. Prints one line a kind, and exits with 1 if anything was wrong.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import concurrent_runs
import killed_runs
from results_folders import results_of, snapshot
from whole_record import whole_record

from backbench.benchmarks.data import sources, store
from backbench.benchmarks.run import checkpoint, runner
from backbench.benchmarks.run import results as files
from backbench.benchmarks.run.executors import Job
from backbench.benchmarks.run.executors.inline import InlineExecutor
from backbench.leaderboard.check import check
from backbench.leaderboard.record.files import Published, create_record, dump_record, load_record
from backbench.leaderboard.trust.submit import submit

DATA = "backbench/hopper/medium-600-v1"
ROUNDS = 6  # kills of one folder, then it may end
HANGS = 300  # seconds after which a process counts as an error


class Work(ABC):
    """Something that a kill must not harm. ``name`` is its line in the table."""

    name: str
    processes = 1

    @abstractmethod
    def run(self, folder: Path) -> None:
        """The work, which continues what is in ``folder``. Runs in processes that are killed."""

    @abstractmethod
    def bits(self, folder: Path) -> object:
        """What must be equal with and without kills."""

    def torn(self, folder: Path) -> Iterator[Path]:
        """Visible files that are not complete."""
        for path in folder.rglob("*"):
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            if not hidden and path.is_file() and not self.complete(path):
                yield path

    def complete(self, path: Path) -> bool:
        """Whether a file is. One that another process has just removed is no trouble."""
        try:
            if path.name == checkpoint.STATE:
                return checkpoint.load(path) is None or True
            if path.suffix == ".safetensors":
                return files.digest_in(path) is not None or not path.exists()
            if path.suffix != ".json":
                return True
            return bool(load_record(path) if path.parent.name == "records" else json.loads(path.read_bytes()))
        except (ValueError, OSError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            return False


class Cells(Work):
    """A training with checkpoints and intermediate evaluations."""

    name = "cells"
    cells = (killed_runs.the_cell(),)

    def run(self, folder: Path) -> None:
        files.tidy(self.cells, folder)
        left = runner.remaining(self.cells, folder)
        outcome = runner.run(left, Job(folder, "cpu", ("chaos",)), InlineExecutor())
        files.tidy(self.cells, folder)
        assert outcome.status == 0, outcome.errors

    def bits(self, folder: Path) -> object:
        records = [load_record(cell.record_path(folder)) for cell in self.cells]
        weights = [files.digest_in(cell.checkpoint_folder(folder) / checkpoint.LAST) for cell in self.cells]
        assert weights == [record.provenance.weights_sha256 for record in records]
        return weights, [(record.scores, record.curve) for record in records]


class Concurrent(Cells):
    """Four runs of one grid in one folder."""

    name, processes = "concurrent runs", 4
    cells = tuple(concurrent_runs.the_cells())


class Data(Work):
    """Making a data set."""

    name = "data making"

    def run(self, folder: Path) -> None:
        os.environ["MINARI_DATASETS_PATH"] = str(folder)
        store.clear_leftovers()
        if not store.exists(DATA):
            assert sources._make(DATA) == ("", "")
        store.read(DATA)
        store.clear_leftovers()

    def bits(self, folder: Path) -> object:
        os.environ["MINARI_DATASETS_PATH"] = str(folder)
        return store.load(DATA).digest


class Records(Work):
    """Writing records of cells that are done, and of cells that failed."""

    name = "record writing"
    records = tuple(whole_record(seed=seed) for seed in range(12))

    def run(self, folder: Path) -> None:
        files.tidy([], folder)
        for record in self.records:
            create_record(record, folder / "records" / f"{record.key}.json")
            dump_record(record, folder / "records" / f"{record.key}.again.json")
        files.tidy([], folder)

    def bits(self, folder: Path) -> object:
        return snapshot(folder)


class Submission(Work):
    """Submitting twelve records."""

    name = "submission"

    def __init__(self, results: Path) -> None:
        self.results = results_of(results, *Records.records)

    def run(self, folder: Path) -> None:
        submit(self.results, folder / "records")

    def bits(self, folder: Path) -> object:
        assert check(Published(folder / "records"), pages=False).problems == []
        return snapshot(folder)


def start(work: Work, folder: Path) -> int:
    """The process id of a new process, the leader of its group, that does the work."""
    if (pid := os.fork()) == 0:
        os.setsid()
        faulthandler.dump_traceback_later(HANGS, exit=True, file=sys.__stderr__)
        try:
            work.run(folder)
        except BaseException:
            traceback.print_exc()
            os._exit(70)
        os._exit(0)
    return pid


def kill_some(work: Work, folder: Path, longest: float, draw: random.Random) -> tuple[int, bool]:
    """One attempt: how many processes were killed before they were done, and whether anything else went wrong."""
    pids = [start(work, folder) for _ in range(work.processes)]
    for pid in pids[: max(1, work.processes - 1)]:
        time.sleep(draw.uniform(0, longest) / work.processes)
        os.kill(pid, signal.SIGKILL)
    statuses = [os.waitpid(pid, 0)[1] for pid in pids]
    killed = sum(os.WIFSIGNALED(status) for status in statuses)
    return killed, any(status not in (0, signal.SIGKILL) for status in statuses)


def torment(work: Work, kills: int, root: Path, draw: random.Random) -> dict[str, int]:
    """Kill until ``kills`` processes died: counts of kills, folders, and what was wrong."""
    alone = root / "alone"
    began = time.monotonic()
    assert os.waitpid(start(work, alone), 0)[1] == 0
    longest, expected = 1.1 * (time.monotonic() - began), work.bits(alone)
    seen = {"kills": 0, "folders": 0, "torn": 0, "other bits": 0, "left over": 0, "errors": 0}
    while seen["kills"] < kills:
        folder = root / str(seen["folders"])
        folder.mkdir()
        seen["folders"] += 1
        for _ in range(ROUNDS):
            killed, wrong = kill_some(work, folder, longest, draw)
            seen["kills"] += killed
            seen["errors"] += wrong
            seen["torn"] += len(list(work.torn(folder)))
        seen["errors"] += os.waitpid(start(work, folder), 0)[1] != 0
        seen["other bits"] += work.bits(folder) != expected
        if left := names(folder) ^ names(alone):
            print(f"{work.name}: {left}", file=sys.stderr)
        seen["left over"] += len(left)
    return seen


def names(folder: Path) -> set[str]:
    """Every file and folder below ``folder``."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def main(kills: int, *chosen: str) -> int:
    """``kills`` in all, shared by the five kinds of work, or by the ``chosen`` ones."""
    draw, wrong = random.Random(kills), 0
    print(f"{'work':<16}{'kills':>7}{'folders':>9}{'torn':>6}{'other bits':>12}{'left over':>11}{'errors':>8}")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MINARI_DATASETS_PATH"] = given = os.environ.get("MINARI_DATASETS_PATH") or f"{folder}/store"
        if not store.exists(killed_runs.the_cell().task.data_id):
            sources._make(killed_runs.the_cell().task.data_id)
        every: list[Work] = [Cells(), Data(), Records(), Submission(Path(folder) / "to-submit"), Concurrent()]
        every = [work for work in every if not chosen or work.name in chosen]
        for work in every:
            (root := Path(folder) / work.name.replace(" ", "-")).mkdir()
            seen = torment(work, -(-kills // len(every)), root, draw)
            os.environ["MINARI_DATASETS_PATH"] = given
            widths = zip(seen.values(), (7, 9, 6, 12, 11, 8), strict=True)
            print(f"{work.name:<16}" + "".join(f"{count:>{width}}" for count, width in widths), flush=True)
            wrong += sum(list(seen.values())[2:])
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), *sys.argv[2:]))
