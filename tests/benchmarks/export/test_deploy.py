"""The runner without torch plays as the evaluation did, from the exported folder alone."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from paths import ROOT

from backbench.benchmarks.data import store
from backbench.benchmarks.data.sources.embedded_memory import play
from backbench.benchmarks.export import onnx
from backbench.benchmarks.export.write import Request, export
from backbench.benchmarks.plan.settings import Cell, EvalConfig, TrainConfig
from backbench.benchmarks.run.cell import run_cell
from backbench.leaderboard.record.schema import Record

pytestmark = pytest.mark.skipif(onnx.missing() is not None, reason=str(onnx.missing()))
RUNNER = ROOT / "examples" / "deploy" / "run.py"
FALLS = TrainConfig(steps=15, batch_size=8, lr=1e-2)  # the robot then falls early
ROBOT = EvalConfig(episodes=2, max_steps=60, targets=(3600.0,))
CLOSE = 1e-3  # relative difference of returns: physics makes rounding errors of 1e-7 grow


@pytest.fixture(scope="module")
def runner() -> dict[str, Any]:
    return runpy.run_path(str(RUNNER))


def exported(cell: Cell, folder: Path) -> tuple[Record, Path]:
    record = run_cell(cell, folder / "results", "cpu")
    assert record.scores is not None, record.failure
    export(Request(record.key, folder / "agent", ("onnx",), folder / "results"))
    return record, folder / "agent"


def starts(cell: Cell) -> list[int]:
    return [int(one) for one in np.random.SeedSequence(cell.eval.seed).generate_state(cell.eval.episodes)]


@pytest.fixture(scope="module")
def robot(
    hopper_store: Path, tiny_cell: Callable[..., Cell], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Record, Path]:
    return exported(tiny_cell("convformer", eval=ROBOT, train=FALLS), tmp_path_factory.mktemp("robot"))


@pytest.mark.parametrize("acting", ["window", "recurrent"])
def test_the_runner_gets_the_returns_of_the_record(
    acting: str, robot: tuple[Record, Path], runner: dict[str, Any], tiny_cell: Callable[..., Cell], tmp_path: Path
) -> None:
    cell = tiny_cell("mamba", eval=replace(ROBOT, acting="recurrent"), train=FALLS)
    record, folder = robot if acting == "window" else exported(cell, tmp_path)
    assert record.headline is not None
    agent, env = runner["Agent"](folder), gymnasium.make("Hopper-v5")
    found = [runner["play"](agent, env, 3600.0, seed) for seed in starts(cell)]
    assert [steps for _, steps in found] == list(record.headline.lengths)
    assert [total for total, _ in found] == pytest.approx(list(record.headline.returns), rel=CLOSE)


def test_the_runner_samples_discrete_actions_as_the_evaluation(runner: dict[str, Any], tmp_path: Path) -> None:
    from planning import cells as planned

    (cell,) = planned(["gru"], "memory", "smoke", [0], ["repeat-4"], overrides=["eval.episodes=1"])
    cell = replace(
        cell, task=replace(cell.task, data_id="export/repeat/x-v0"), eval=replace(cell.eval, acting="recurrent")
    )
    env = gymnasium.make(cell.task.env_id, **cell.task.env_kwargs)
    games = [play(env.unwrapped, number) for number in range(20)]
    store.write("export/repeat/x-v0", games, cell.task.env_id, {}, **cell.task.env_kwargs)
    record, folder = exported(cell, tmp_path)
    assert record.headline is not None
    agent = runner["Agent"](folder)
    agent.reset(None, cell.eval.seed)
    observation, reward, total, done = env.reset(seed=starts(cell)[0])[0], None, 0.0, False
    while not done:
        observation, reward, terminated, truncated, _ = env.step(agent.act(observation, reward))
        total, done = total + float(reward), terminated or truncated
    assert total == record.headline.returns[0]


def test_the_program_runs_without_torch_and_refuses_what_does_not_fit(
    robot: tuple[Record, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(robot[1], tmp_path / "agent"))
    code = f"import runpy, sys; sys.argv[0] = {str(RUNNER)!r}\n"
    code += "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
    code += "finally: assert not {'torch', 'backbench'} & set(sys.modules), 'it imports torch'"

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code, str(folder), *words], capture_output=True, text=True)

    done = run("--episodes", "2")
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["seed 0", "seed 1"]
    graph = folder / "window.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    changed = run()
    assert (changed.returncode, "is not the file that was exported" in changed.stderr) == (2, True)
    settings = folder / "config.json"
    whole = settings.read_text(encoding="utf-8")
    for text, said in (
        (whole.replace('"format": 1', '"format": 2'), "is of another version"),
        (whole.replace('"context": ', '"context": 1'), "was changed; export the agent again"),
        (whole[:-20], "is damaged; export the agent again"),
        ("[]", "is of another version"),
    ):
        settings.write_text(text, encoding="utf-8")
        refused = run()
        assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1), refused.stderr
        assert said in refused.stderr
    settings.unlink()
    assert "config.json: No such file or directory; export the agent again" in run().stderr
    for words in (["--episodes", "0"], ["--seed", "-1"]):
        assert run(*words).returncode == 2


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda agent: agent.act(np.zeros(11)), "call reset first"),
        (lambda agent: (agent.reset(), agent.act(np.zeros(5))), "an observation of 11 numbers"),
        (lambda agent: (agent.reset(), agent.act(np.full(11, np.nan))), "an observation of 11 numbers up to"),
        (lambda agent: (agent.reset(), agent.act(np.zeros(11)), agent.act(np.zeros(11))), "the reward of the last"),
        (lambda agent: (agent.reset(), agent.act(np.zeros(11)), agent.act(np.zeros(11), np.nan)), "reward nan: give"),
        (lambda agent: agent.reset(np.inf), "target inf: give a number"),
    ],
)
def test_a_wrong_call_of_the_runner_is_one_line(
    call: Callable[[Any], object], said: str, robot: tuple[Record, Path], runner: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        call(runner["Agent"](robot[1]))
    assert "\n" not in str(caught.value)


def test_the_runner_says_what_to_export(runner: dict[str, Any], robot: tuple[Record, Path], tmp_path: Path) -> None:
    record, folder = robot
    export(Request(record.key, tmp_path / "plain", (), folder.parent / "results"))
    with pytest.raises(ValueError, match="has no graphs; export the agent with --format onnx"):
        runner["Agent"](tmp_path / "plain")
