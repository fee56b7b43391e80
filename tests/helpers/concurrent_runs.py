"""Runs of one grid that start together in one folder of results; some are killed.

Arguments: the folder of results, how many runs, how many of them are killed, and a seed. Prints JSON: for each run that
was not killed, the keys that it started, recorded and found recorded, and its exit status.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import killed_runs

from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run import runner
from backbench.benchmarks.run.executors import Event, Job
from backbench.benchmarks.run.executors.inline import InlineExecutor


def the_cells() -> list[Cell]:
    return [replace(killed_runs.the_cell(), seed=seed) for seed in range(4)]


class Heard:
    """A sink that keeps the names of the cells by kind of event."""

    def __init__(self) -> None:
        self.keys: dict[str, list[str]] = {"started": [], "done": [], "taken": [], "error": []}

    def event(self, event: Event) -> None:
        if event.kind in self.keys:
            self.keys[event.kind].append(event.message or event.cell.key)


def one(results: Path, number: int) -> None:
    """What ``bench run`` does once everything is imported, in a process group of its own."""
    os.setsid()
    try:
        heard = Heard()
        outcome = runner.run(the_cells(), Job(results, "cpu", ("test",)), InlineExecutor(), [heard])
        (results / f"run-{number}.json").write_text(
            json.dumps({**heard.keys, "status": outcome.status, "records": len(outcome.done)}), encoding="utf-8"
        )
    except BaseException:
        traceback.print_exc()
        os._exit(70)
    os._exit(0)


def main(arguments: Sequence[str]) -> None:
    results, runs, kills, draw = Path(arguments[0]), int(arguments[1]), int(arguments[2]), random.Random(arguments[3])
    results.mkdir(parents=True)
    pids = {}
    for number in range(runs):
        if (pid := os.fork()) == 0:
            one(results, number)
        pids[pid] = number
    victims = draw.sample(list(pids), kills)
    for pid in victims:
        time.sleep(draw.uniform(0.02, 0.6))
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        status = os.waitpid(pid, 0)[1]
        assert status == 0 or pid in victims, status
    said = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("run-*.json"))}
    for path in results.glob("run-*.json"):
        path.unlink()
    print(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1:])
