"""What a cell costs beside its training, in a fresh process, a forked one, and a process that served another cell.

    PYTHONPATH=src python tools/cell_overhead.py

CPU seconds depend on the machine and on its other work; compare the rows of one call. ``peak MB`` is what the record
says. Equal weights are checked.
"""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import backbench
from backbench.benchmarks.data.processes import ONE_THREAD
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run import runner
from backbench.benchmarks.run.cell import run_cell
from backbench.leaderboard.record.files import load_record
from backbench.leaderboard.record.schema import Record

ROUNDS = 3
Way = Callable[[Cell, Path], float]


def fresh(cell: Cell, results: Path) -> float:
    """CPU seconds of ``python -m backbench.run_cell``."""
    results.mkdir(parents=True)
    (path := results / "cell.json").write_text(json.dumps(cell.resolved()), encoding="utf-8")
    words = [sys.executable, "-m", "backbench.run_cell", str(path), "--results", str(results), "--device", "cpu"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, status
    return usage.ru_utime + usage.ru_stime


def in_this_process(cells: list[Cell], results: Path, told: Path) -> None:
    for number, cell in enumerate(cells):
        run_cell(cell, results / str(number), "cpu", command=["test"])
    told.write_text(str(time.process_time()), encoding="utf-8")


def forked(cell: Cell, results: Path) -> float:
    """CPU seconds of a process that a server forked after it had imported torch and its compiler."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torch._dynamo", "gymnasium", "mujoco", "backbench.benchmarks.run.cell"])
    results.mkdir(parents=True)
    process = context.Process(target=in_this_process, args=([cell], results.parent / "forked", results / "cpu"))
    process.start()
    process.join()
    (results.parent / "forked" / "0").rename(results / "records-of-it")
    return float((results / "cpu").read_text(encoding="utf-8"))


def second(cell: Cell, results: Path) -> float:
    """CPU seconds of a small cell after a larger one, in the same process."""
    larger = replace(cell, train=replace(cell.train, batch_size=64 * cell.train.batch_size, steps=4))
    run_cell(larger, results / "larger", "cpu", command=["test"])
    begun = time.process_time()
    run_cell(cell, results / "small", "cpu", command=["test"])
    return time.process_time() - begun


def record_of(cell: Cell, results: Path) -> Record:
    (path,) = results.rglob(f"{cell.key}.json")
    return load_record(path)


def main() -> None:
    os.environ |= ONE_THREAD | {"MUJOCO_GL": "disabled"}
    cell = backbench.cell("mamba", "hopper-medium", preset="smoke")
    with TemporaryDirectory() as folder:
        runner.prepare([cell], Path(folder), runner.Voice(lambda _: None, lambda _: lambda _: None, None))  # type: ignore[arg-type]  # nothing is downloaded
        ways: dict[str, Way] = {"fresh process": fresh, "forked process": forked, "second cell of a process": second}
        digests = set()
        for name, way in ways.items():
            cpu, inside, peak = [], [], []
            for number in range(ROUNDS):
                results = Path(folder, name, str(number))
                cpu.append(way(cell, results))
                record = record_of(cell, results)
                assert record.cost is not None
                inside.append(record.cost.cpu_seconds)
                peak.append(record.cost.peak_memory_mb)
                digests.add(record.provenance.weights_sha256)
            outside = median(a - b for a, b in zip(cpu, inside, strict=True))
            print(f"{name:26} CPU s {median(cpu):5.2f}, outside the cell {outside:5.2f}   peak MB {median(peak):6.1f}")
        print(f"different weights: {len(digests) - 1}")


if __name__ == "__main__":
    main()
