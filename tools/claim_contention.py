"""What claims and records cost when many processes share one folder of results, or one bucket.

    PYTHONPATH=src python tools/claim_contention.py folder                  # in a temporary folder
    PYTHONPATH=src python tools/claim_contention.py /mnt/shared/somewhere   # in a folder of yours
    PYTHONPATH=src python tools/claim_contention.py moto                    # a server on loopback, needs moto[server]
    PYTHONPATH=src python tools/claim_contention.py s3://bucket/prefix

Prints for 1, 8 and 64 processes: claims taken and released a second where all want the same cells, how many cells had
another number of owners than one (0 is right), and records created a second. Then the time to list records.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from backbench import claims, storage
from backbench.files import write_whole

PROCESSES = (1, 8, 64)


def work(root: Path, cells: int, go: Any, results: Any) -> None:
    """Claim every cell that nobody had, then create records."""
    observer, won, took = storage.observer(root), 0, 0.0
    go.wait()
    order = random.sample(range(cells), cells)
    began = time.monotonic()
    for number in order:
        home = root / "checkpoints" / f"cell{number}"
        try:
            claim = claims.take(home, observer)
        except claims.Held:
            continue
        if observer.disk.publish(home / "owner", claim.token):  # what a record is: the first stays
            won += 1
        claim.check()
        claim.release()
    took = time.monotonic() - began
    go.wait()
    began = time.monotonic()
    for number in range(max(1, cells // go.parties)):
        observer.disk.publish(root / "records" / f"{os.getpid()}-{number}.json", json.dumps({"text": "x" * 20_000}))
    results.put((won, took, time.monotonic() - began))


def measure(root: Path, processes: int, cells: int) -> str:
    """A row of the table."""
    context = multiprocessing.get_context("fork")
    go, results = context.Barrier(processes), context.Queue()
    running = [context.Process(target=work, args=(root, cells, go, results)) for _ in range(processes)]
    for one in running:
        one.start()
    came = [results.get(timeout=580) for _ in running]
    for one in running:
        one.join()
    wrong = cells - sum(won for won, *_ in came)
    records = processes * max(1, cells // processes)
    claiming, creating = max(took for _, took, _ in came), max(took for *_, took in came)
    return f"| {processes} | {cells / claiming:.0f} | {wrong} | {records / creating:.0f} |"


def listing(root: Path, count: int) -> str:
    """The time to list records by name, as a run does at its start."""
    disk = storage.disk(root)
    for number in range(count if isinstance(disk, storage.Objects) else 0):
        disk._ask("pipe_file", disk._name(root / f"records/{number}.json"), b"{}")  # type: ignore[attr-defined]
    if not isinstance(disk, storage.Objects):
        (root / "records").mkdir(parents=True)
        for number in range(count):
            (root / f"records/{number}.json").write_bytes(b"{}")
    began = time.monotonic()
    there = disk.listing(root) if isinstance(disk, storage.Objects) else list(root.glob("records/*.json"))
    assert len(there) == count
    return f"{count:,} records listed in {time.monotonic() - began:.2f} s"


def main() -> None:
    where, scale = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ.setdefault("BACKBENCH_MIRRORS", str(temporary / "mirrors"))
        if where == "moto":
            sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))
            import moto_server

            where = stack.enter_context(moto_server.bucket())
        base = str(temporary / "results") if where == "folder" else where
        print("| processes | claims a second | cells without one owner | records a second |\n|---:|---:|---:|---:|")
        for processes in PROCESSES:
            root = storage.folder(f"{base}/{processes}")
            write_whole(root / "ready", "")
            print(measure(root, processes, int((64 if storage.is_address(where) else 512) * scale)), flush=True)
        print(listing(storage.folder(f"{base}/many"), int(10_000 * scale)))


if __name__ == "__main__":
    main()
