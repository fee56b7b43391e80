"""A package installed beside Backbench adds a backbone like any other."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "backbench-ema"


@pytest.mark.skipif(not EXAMPLE.is_dir(), reason="the example is not part of an installed package")
def test_the_example_plug_in_runs(
    hopper_store: Path, bench: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    work = tmp_path_factory.mktemp("plug-in")
    shutil.copytree(EXAMPLE, work / "source")
    words = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", work / "site"]
    subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, words), str(work / "source")],
        check=True,
        capture_output=True,
    )
    path = str(work / "site")
    assert "entry point of backbench-ema" in bench("list", PYTHONPATH=path).out
    done = bench(
        "run", "--backbone", "ema", "--preset", "smoke", "--task", "hopper-medium", "--track", "none",
        "backbone.horizon=12", "eval.max_steps=20", PYTHONPATH=path,
    )  # fmt: skip
    assert done.code == 0, done.err
    (record,) = (json.loads(p.read_text()) for p in (tmp_path / "results" / "records").glob("*.json"))
    assert record["identity"]["backbone"] == "ema"
    assert record["identity"]["options"] == {"horizon": 12.0}
    assert record["identity"]["variant"] == "backbone.horizon=12 eval.max_steps=20"
    assert record["status"] == "done"
