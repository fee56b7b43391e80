"""Damage foreign files and read them: ``python tests/fuzz/run.py [--inputs N] [TARGET ...]``.

Each target runs in a process of its own. An input fails if its reader raises anything but its declared error, crashes,
takes more than ``SECONDS`` or ``MEGABYTES``, or accepts a changed content where a digest is kept. The table at the end
says how many. ``--only I`` repeats input I of a target and prints the traceback.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from random import Random
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "helpers")]
SECONDS, MEGABYTES = 5.0, 1000
STUCK = 60.0  # seconds of wall time; then the process is ended


def _cpu() -> float:
    own, below = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + below.ru_utime + below.ru_stime


def _peak() -> float:
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1000


def work(name: str, inputs: range, folder: Path) -> dict[str, Any]:
    """Read the inputs of one target; what came of them."""
    from loaders import TARGETS, put, restored
    from mutations import mutate

    target = TARGETS[name](folder)
    sound = restored(target)
    expected = target.load() if name != "speed_report" else ""
    base = _peak()
    found: dict[str, Any] = {"inputs": 0, "accepted": 0, "refused": 0, "failed": [], "slowest": 0.0, "peak": 0.0}
    for number in inputs:
        rng = Random(f"{name} {number}")
        path = rng.choice(target.files)
        content = mutate(path, sound[path], rng)
        put(path, content)
        (folder / "at").write_text(str(number), encoding="ascii")
        faulthandler.dump_traceback_later(STUCK, exit=True)
        began, problem = _cpu(), ""
        try:
            read = target.load()
            found["accepted"] += 1
            if target.checked and read != expected:
                problem = "accepted another content"
        except target.errors as error:
            found["refused"] += 1
            if "\n" in str(error):
                problem = f"more than one line: {str(error)[:200]!r}"
        except BaseException as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            problem = f"{type(error).__name__}: {str(error)[:120]} ({Path(at.filename).name}:{at.lineno})"
            if len(inputs) == 1:
                traceback.print_exc()
        faulthandler.cancel_dump_traceback_later()
        took = _cpu() - began
        found["inputs"] += 1
        found["slowest"] = max(found["slowest"], took)
        found["peak"] = max(found["peak"], _peak() - base)
        if took > SECONDS:
            problem = problem or f"took {took:.1f} s"
        if _peak() - base > MEGABYTES and not problem and found["peak"] - MEGABYTES < 50:
            problem = f"took {_peak() - base:.0f} MB"
        if problem:
            found["failed"].append((number, path.name, problem))
        put(path, sound[path])
    return found


def apart(name: str, inputs: range) -> dict[str, Any]:
    """``work`` in a process of its own, begun again behind an input that ended it."""
    total: dict[str, Any] = {"inputs": 0, "accepted": 0, "refused": 0, "failed": [], "slowest": 0.0, "peak": 0.0}
    first = inputs.start
    while first < inputs.stop:
        with tempfile.TemporaryDirectory() as folder:
            words = [
                sys.executable,
                __file__,
                "--work",
                folder,
                "--from",
                str(first),
                "--inputs",
                str(inputs.stop - first),
            ]
            done = subprocess.run([*words, name], capture_output=True, text=True, encoding="utf-8", errors="replace")
            try:
                found = json.loads(done.stdout.splitlines()[-1])
                first = inputs.stop
            except (ValueError, IndexError):
                at = Path(folder, "at")
                if not at.exists():
                    raise SystemExit(f"{name} did not start:\n{done.stderr[-3000:]}") from None
                number = int(at.read_text(encoding="ascii"))
                said = (done.stderr.strip().splitlines() or [""])[-1][:100]
                what = f"the process ended with {done.returncode}: {said}"
                found = {"inputs": number - first + 1, "failed": [(number, "", what)]}
                first = number + 1
        for key, value in found.items():
            total[key] = max(total[key], value) if key in ("slowest", "peak") else total[key] + value
    return total


def main() -> int:
    from loaders import TARGETS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"some of: {', '.join(TARGETS)}")
    parser.add_argument("--inputs", type=int, default=10_000, help="for each target")
    parser.add_argument("--from", type=int, default=0, dest="first", help="number of the first input")
    parser.add_argument("--only", type=int, help="this input of one target")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    inputs = range(given.first, given.first + given.inputs)
    if given.only is not None:
        with tempfile.TemporaryDirectory() as folder:
            print(work(given.targets[0], range(given.only, given.only + 1), Path(folder)))
        return 0
    if given.work:
        print(json.dumps(work(given.targets[0], inputs, given.work)))
        return 0
    columns = ("inputs", "accepted", "refused", "failed", "slowest, s", "peak, MB", "minutes")
    print(f"{'target':<18}" + "".join(f"{column:>12}" for column in columns), flush=True)
    failed = 0
    for name in given.targets or TARGETS:
        began = time.monotonic()
        found = apart(name, inputs)
        counts = (found["inputs"], found["accepted"], found["refused"], len(found["failed"]))
        said = "".join(f"{count:>12}" for count in counts) + f"{found['slowest']:>12.2f}{found['peak']:>12.0f}"
        print(f"{name:<18}{said}{(time.monotonic() - began) / 60:>12.1f}", flush=True)
        for number, file, problem in found["failed"][:20]:
            print(f"  {name} --only {number}: {file}: {problem}", flush=True)
        failed += len(found["failed"])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
