"""What travels to a machine without a network, and what ``make gpu`` says where something is missing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

SCRIPTS = ROOT / ".ci"


def test_every_package_that_travels_is_locked() -> None:
    needs = re.search(r'^needs="([^"]*)"', (SCRIPTS / "gpu-wheels").read_text(encoding="utf-8"), re.MULTILINE)
    assert needs is not None
    locks = "\n".join((ROOT / "locks" / name).read_text(encoding="utf-8") for name in ("run.txt", "test.txt"))
    locked = set(re.findall(r"^([a-z0-9-]+)==", locks, re.MULTILINE))
    named = needs[1].split()
    assert len(named) > 20
    assert set(named) - locked == set()
    assert "torch" not in named, "the other machine has its own"


@pytest.mark.parametrize(
    ("python", "says"),
    [
        (sys.executable, "neither no-venv nor no-wheels is here; with a network: make setup; else bring"),
        ("none", "no Python 3.11, 3.12 or 3.13 found"),
    ],
)
def test_what_is_missing_is_one_line(python: str, says: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        ["sh", SCRIPTS / "gpu-check", python, "no-venv", "no-wheels"], capture_output=True, text=True, cwd=tmp_path
    )
    assert ran.returncode == 2
    assert says in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
