"""A hundred damaged inputs for each reader of foreign files; ``make fuzz`` reads ten thousand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")
GROUPS = (
    ("record", "published_record", "verification", "retired_csv", "suite_yaml", "speed_report"),
    ("minari_set", "flat_copy", "pixel_set"),
    ("d4rl_hdf5", "dqn_shards"),
    ("checkpoint", "weights", "exported_folder", "cell_order"),
)
INPUTS = int(os.environ.get("BACKBENCH_FUZZ", "100"))


@pytest.mark.parametrize("targets", GROUPS, ids=lambda names: names[0])
def test_no_damaged_file_gets_past_its_reader(targets: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, str(RUN), "--inputs", str(INPUTS), *targets], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
