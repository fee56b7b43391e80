"""What planning 10,000 cells and a board from 10,000 records cost, in CPU seconds of one process.

    PYTHONPATH=src python tools/scale.py [COUNT]

The records are committed ones with other seeds. docs/explanation/scale.md has the figures.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "leaderboard" / "published" / "records" / "d4rl"
BENCH = [sys.executable, "-c", "from backbench.benchmarks.cli.app import main; main()"]
TASKS = 9  # of suite d4rl
NAMES = "transformer,mamba,gloma,gru,mlp"


def timed(name: str, words: list[str], folder: Path) -> str:
    """A row of the table for a command."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([*BENCH, *words], cwd=folder, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"bench {' '.join(words)} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"| {name} | {spent:.1f} | {time.monotonic() - began:.1f} | {after.ru_maxrss / 1000:,.0f} MB |"


def copies(folder: Path, count: int) -> int:
    """Write ``count`` records, or a few fewer; how many."""
    folder.mkdir(parents=True)
    originals = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RECORDS.glob("*.json"))]
    originals = [record for record in originals if record["status"] == "done" and record["identity"]["seed"] == 0]
    seeds = count // len(originals)
    for record in originals:
        before = record["key"]
        for seed in range(seeds):
            record["identity"]["seed"] = record["provenance"]["config"]["seed"] = seed
            record["key"] = before.replace(".s0.", f".s{seed}.")
            (folder / f"{record['key']}.json").write_text(json.dumps(record), encoding="utf-8")
    return seeds * len(originals)


def main(count: int = 10_000) -> None:
    """Print a table."""
    print("| what | CPU s | seconds | peak memory of a process |\n|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        folder, seeds = Path(name), count // (TASKS * NAMES.count(",") + TASKS)
        words = ["run", "--backbone", NAMES, "--suite", "d4rl", "--seeds", str(seeds), "--dry-run"]
        words += ["--max-cells", str(count)]
        cells = seeds * TASKS * len(NAMES.split(","))
        print(timed(f"`bench run --dry-run` of {cells:,} cells", words, folder), flush=True)
        made = copies(folder / "grid" / "records", count)
        print(timed(f"`bench leaderboard` of {made:,} records", ["leaderboard", "grid"], folder), flush=True)
        pages = ["leaderboard", "grid", "--format", "html", "--out", "pages"]
        print(timed(f"`bench leaderboard --format html` of {made:,} records", pages, folder), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
