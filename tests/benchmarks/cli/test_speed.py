"""The command ``bench speed``: its options come from the settings, and a mistake is one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from speed_settings import WORDS

from backbench.benchmarks.speed.report import read


def test_command_writes_a_report_that_from_prints_again(bench: Callable[..., Any], tmp_path: Path) -> None:
    words = ("speed", "--backbone", "gloma", "--lengths", "6,12", "--parts", "lengths", *WORDS)
    done = bench(*words, "--out", "here", "backbone.window=3", "backbone.local_d_conv=1", "--markdown")
    assert done.code == 0, done.err
    assert "### Training over the context" in done.out
    assert (tmp_path / "here" / "speed.png").stat().st_size > 10_000
    assert read(tmp_path / "here").config["options"] == {"window": 3, "local_d_conv": 1}
    again = bench("speed", "--from", "here", "--markdown")
    assert (again.code, again.out) == (0, done.out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lengths", "20,many"], "--lengths 20,many: give whole numbers"),
        (["--lengths", "0"], "--lengths 0: give at least 1"),
        (["--parts", "trainig"], "unknown part 'trainig'; did you mean 'training'"),
        (["--out", "/proc/none"], "cannot write to /proc/none"),
        (["--from", "nowhere"], "cannot read nowhere"),
    ],
)
def test_a_wrong_option_is_one_line(bench: Callable[..., Any], words: list[str], message: str) -> None:
    done = bench("speed", *words)
    assert done.code == 2
    assert message in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
