"""Efficiency of two local workers against one: the same cells of preset smoke, one and two at a time, in turns.

    PYTHONPATH=src python tools/side_by_side.py [CELLS]

``wall`` is time with one worker over twice the time with two: 1 is perfect, and other work on the machine lowers it.
``CPU`` is CPU seconds of the workers with one over those with two: below 1, cells slow each other down.
"""

import os
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import backbench
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run import runner
from backbench.benchmarks.run.executors import Job
from backbench.benchmarks.run.executors.local import LocalExecutor

ROUNDS = 2


def measured(cells: list[Cell], jobs: int, results: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a run."""
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    outcome = runner.run(cells, Job(results, "cpu", ("test",)), LocalExecutor(jobs))
    assert len(outcome.done) == len(cells), outcome.errors
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begun, cpu


def main() -> None:
    os.environ["MUJOCO_GL"] = "disabled"
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 6
    cells = [backbench.cell("mlp", "hopper-medium", preset="smoke", seed=seed) for seed in range(count)]
    sums = {1: [0.0, 0.0], 2: [0.0, 0.0]}
    with TemporaryDirectory() as folder:
        backbench.run_cell(cells[0], Path(folder, "data"))  # generates the data, and compiles bytecode
        for number in range(2 * ROUNDS):
            jobs = 1 + number % 2
            for index, value in enumerate(measured(cells, jobs, Path(folder, str(number)))):
                sums[jobs][index] += value
    (wall, cpu), (wall_2, cpu_2) = sums[1], sums[2]
    print(f"one worker:  wall {wall:6.1f} s, CPU {cpu:6.1f} s")
    print(f"two workers: wall {wall_2:6.1f} s, CPU {cpu_2:6.1f} s")
    print(f"efficiency: wall {wall / (2 * wall_2):.2f}, CPU {cpu / cpu_2:.2f}")


if __name__ == "__main__":
    main()
