"""The tests that need a GPU, and ``bench speed``: commands of their own, whose results are read."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

import torch

from backbench import terminal
from backbench.benchmarks.run import provenance
from gpu_check.settings import Say, Settings

ROOT = Path(__file__).resolve().parents[2]
MARK = "mark.gpu"
PROCESSES = 8  # of the tests, at most: compiling kernels takes them most of the time
SPARE = 4.0  # seconds between the end of the tests and that of their stage
START = 12.0  # seconds of ``bench speed`` that are not timed runs, about
BENCH = "from backbench.benchmarks.cli.app import main; main()"  # where the package is not installed
PARTS = "training,latency,kernels"
REHEARSAL = [
    "--backbone",
    "transformer,mamba",
    "--d-model",
    "32",
    "--n-layers",
    "1",
    "--context",
    "5",
    "--batch-size",
    "8",
]


def run_tests(settings: Settings, say: Say, seconds: float) -> None:
    """``pytest -m gpu`` over the files that have such tests. Other files need packages that may not be here."""
    tests = ROOT / "tests"
    files = sorted(str(p) for p in tests.rglob("test_*.py") if MARK in p.read_text(encoding="utf-8"))
    # Plug-ins that happen to be installed may not fit this pytest.
    parallel = ["-p", "xdist.plugin", "-n", str(min(PROCESSES, provenance.cores()))] if find_spec("xdist") else []
    with TemporaryDirectory() as folder:
        results = Path(folder) / "results.xml"
        words = ["-m", "pytest", "-m", "gpu", "-vv", "-p", "no:cacheprovider", *parallel, f"--junitxml={results}"]
        printed = Path(folder) / "printed.txt"  # not a pipe, which processes of the tests might keep open
        code: int | None = None
        with open(printed, "wb") as output, suppress(subprocess.TimeoutExpired):
            code = subprocess.run(
                [sys.executable, *words, *files],
                cwd=ROOT,
                env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
                stdout=output,
                check=False,
                timeout=max(1.0, seconds - SPARE),
            ).returncode
        text = printed.read_text(encoding="utf-8", errors="replace")
        terminal.write(text)  # for the log
        found = read_results(results) if results.is_file() else read_output(text)
    say({"kind": "tests", **found})
    if code is None or code not in (0, 1) or found["failed"]:
        why = "no time was left" if code is None else f"pytest ended with status {code}"
        first = f", the first: {found['failed'][0]}" if found["failed"] else ""
        say({"kind": "error", "error": f"{why}; {found['passed']} passed, {len(found['failed'])} failed{first}"})


def read_results(path: Path) -> dict[str, Any]:
    """Counts and the names of failed tests, from a JUnit file that our own process wrote."""
    cases = list(ElementTree.parse(path).iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    return {
        "passed": len(cases) - len(failed) - len(skipped),
        "skipped": len(skipped),
        "failed": [str(case.get("name")) for case in failed],
    }


def read_output(text: str) -> dict[str, Any]:
    """The same from what pytest printed until it was ended. A test's name and its outcome may be in either order."""
    lines = [line.split() for line in text.splitlines()]
    ended = {outcome: [words for words in lines if outcome in words] for outcome in ("PASSED", "SKIPPED", "FAILED")}
    names = {next((word for word in words if "::" in word), "").rpartition("::")[2] for words in ended["FAILED"]}
    return {"passed": len(ended["PASSED"]), "skipped": len(ended["SKIPPED"]), "failed": sorted(names)}


def run_speed(settings: Settings, say: Say, seconds: float) -> None:
    """``bench speed`` with timed runs that fit the time. Its tables go into the report."""
    budget = max(2.0, (seconds - START) / 3)
    out = Path(settings.out) / "speed"
    words = ["speed", "--device", settings.device, "--parts", PARTS, "--budget", f"{budget:.0f}", "--repeats", "5"]
    words += ["--out", str(out), "--markdown", *([] if settings.cuda else REHEARSAL)]
    done = subprocess.run([sys.executable, "-c", BENCH, *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1) or not (out / "speed.json").is_file():
        raise RuntimeError(f"bench speed ended with status {done.returncode}")
    say({"kind": "speed", "budget": budget, "markdown": done.stdout, "torch": torch.__version__})
    report = json.loads((out / "speed.json").read_text(encoding="utf-8"))
    refused = [one for one in (*report["subjects"], *report["kernels"]) if one["refused"]]
    if refused:
        say({"kind": "error", "error": f"{len(refused)} refused, the first because: {refused[0]['refused']}"})
