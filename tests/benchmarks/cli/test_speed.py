"""The command ``bench speed``: its options come from the settings, and a mistake is one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from speed_settings import WORDS
from typer.testing import CliRunner

from backbench.backbones import BACKBONES
from backbench.benchmarks.cli.app import app
from backbench.benchmarks.speed.config import SpeedConfig
from backbench.benchmarks.speed.report import read


def test_command_writes_a_report_that_from_prints_again(bench: Callable[..., Any], tmp_path: Path) -> None:
    words = ("speed", "--backbone", "gloma", "--lengths", "6,12", "--parts", "lengths", *WORDS)
    done = bench(*words, "--out", "here", "backbone.window=1", "backbone.local_d_conv=1", "--markdown")
    assert done.code == 0, done.err
    assert "### Training over the context" in done.out
    assert (tmp_path / "here" / "speed.png").stat().st_size > 10_000
    assert read(tmp_path / "here").config["options"] == {"window": 1, "local_d_conv": 1}
    again = bench("speed", "--from", "here", "--markdown")
    assert (again.code, again.out) == (0, done.out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lengths", "20,many"], "--lengths 20,many: give whole numbers"),
        (["--lengths", "0"], "--lengths 0: give at least 1"),
        (["--parts", "trainig"], "unknown part 'trainig'; did you mean 'training'"),
        (["--out", "/proc/none"], "cannot write to /proc/none"),
        (["--from", "nowhere"], "nowhere cannot be read"),
    ],
)
def test_a_wrong_option_is_one_line(bench: Callable[..., Any], words: list[str], message: str) -> None:
    done = bench("speed", *words)
    assert done.code == 2
    assert message in done.err.splitlines()[-1]
    assert "Traceback" not in done.err


def test_all_backbones_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[SpeedConfig] = []
    monkeypatch.setattr("backbench.benchmarks.speed.run.speed", lambda config: asked.append(config) or 0)
    assert CliRunner().invoke(app, ["speed", "--backbone", "all"]).exit_code == 0
    assert asked[0].backbones == tuple(BACKBONES.names())


def test_every_setting_has_an_option_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[SpeedConfig] = []

    def take(config: SpeedConfig) -> int:
        asked.append(config)
        return 0

    monkeypatch.setattr("backbench.benchmarks.speed.run.speed", take)
    words = "--backbone mlp,identity --peers --lengths 6,12 --device cpu --threads 2 --out x --repeats 3 --budget 4.5 \
        --parts memory --d-model 8 --n-layers 1 --context 5 --batch-size 2 --bf16 --markdown backbone.window=1"
    for line in ("", words):
        assert CliRunner().invoke(app, ["speed", *line.split()]).exit_code == 0
    assert asked[0] == SpeedConfig()
    assert asked[1] == SpeedConfig(
        ("mlp", "identity"), True, (6, 12), "cpu", 2, Path("x"), 3, 4.5, ("memory",), 8, 1, 5, 2, True, True,
        options={"window": 1},
    )  # fmt: skip
