"""Runs a cell in processes that are killed, again and again until it is done. Started by ``test_checkpoint``.

Arguments: the folder of results, and how the processes die: ``anywhere`` (SIGKILL to the process group at random
moments) or ``writing`` (each sends SIGKILL to itself before or after the n-th flush or rename).
Prints JSON: how many attempts died, and how many found a checkpoint.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from backbench import files
from backbench.benchmarks.plan import suites
from backbench.benchmarks.plan.settings import Cell, DataConfig, EvalConfig, ModelConfig, TrainConfig
from backbench.benchmarks.run.cell import run_cell


def the_cell() -> Cell:
    """Dropout, two evaluations on the way, and intervals that share no step."""
    task = replace(suites.resolve("d4rl", "hopper-medium", "embedded"), data_id="backbench/hopper/medium-2000-v1")
    return Cell(
        "transformer",
        task,
        "smoke",
        model=ModelConfig(d_model=16, n_layers=1, context=4),
        data=DataConfig(steps=2000),
        train=TrainConfig(
            steps=60, batch_size=8, warmup=5, schedule="cosine", log_every=4, checkpoint_every=7, evaluations=3
        ),
        eval=EvalConfig(episodes=2, max_steps=10),
    )


def attempt(results: Path, prepare: Callable[[], None], kill_after: float | None) -> int:
    """One attempt in a process group of its own; its wait status."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        try:
            prepare()
            run_cell(the_cell(), results, "cpu", command=["test"])
        except BaseException:
            traceback.print_exc()
            os._exit(70)
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:  # not a leader yet
            os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def die_at(number: int, before: bool) -> Callable[[], None]:
    """SIGKILL around the ``number``-th of all flushes and renames."""
    calls = iter(range(1, 10**9))

    def around(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            now = next(calls) == number
            if now and before:
                os.kill(os.getpid(), signal.SIGKILL)
            answer = function(*arguments)
            if now:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return call

    def prepare() -> None:
        os.fsync, os.replace = around(os.fsync), around(os.replace)
        assert files.os is os

    return prepare


def main() -> None:
    results, way = Path(sys.argv[1]), sys.argv[2]
    home = the_cell().checkpoint_folder(results)
    draw = random.Random(4)
    died = resumed = 0
    # The first run is undisturbed and in this process, so that no attempt needs to import anything.
    run_cell(the_cell(), results.with_name("first"), "cpu")
    begun = time.monotonic()
    assert attempt(results.with_name("second"), lambda: None, None) == 0
    whole = time.monotonic() - begun
    for number in range(60):
        resumed += any(home.glob("*/state.pt"))
        if way == "anywhere":
            # Some early, some late, later and later. The last ones are not killed.
            after = draw.uniform(0.15, 0.45) * whole * (1 + number / 10) if number < 12 else None
            status = attempt(results, lambda: None, after)
        else:
            # A finished training makes 12 calls: claim, weights, record. So the largest numbers let the run end.
            status = attempt(results, die_at(2 + number % 13, before=number % 2 == 0), None)
        if status == 0:
            break
        assert os.WIFSIGNALED(status), f"attempt {number} ended with {status}"
        died += 1
    else:
        raise SystemExit("never done")
    print(json.dumps({"died": died, "resumed": resumed}))


if __name__ == "__main__":
    main()
