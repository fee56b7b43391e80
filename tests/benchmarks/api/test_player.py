"""An agent that is played by ``reset`` and ``act`` does what its evaluation did."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from planning import cells as planned

import backbench
from backbench import Player, UserError
from backbench.benchmarks.data import store
from backbench.benchmarks.data.sources.embedded_memory import play
from backbench.benchmarks.data.store import framestore
from backbench.benchmarks.data.trajectories import Episode
from backbench.benchmarks.environments.atari.kind import AtariBatch
from backbench.benchmarks.environments.atari.protocol import AtariProtocol
from backbench.benchmarks.environments.observe import Observe
from backbench.benchmarks.plan import suites
from backbench.benchmarks.plan.settings import Cell, EvalConfig, ModelConfig, TrainConfig
from backbench.leaderboard.record.schema import Record, TargetScore

Build = Callable[..., Cell]
FALLS = TrainConfig(steps=15, batch_size=8, lr=1e-2)  # robots then fall at different times
ROBOT = EvalConfig(episodes=3, max_steps=250, targets=(3600.0, 1800.0))


@pytest.fixture(scope="module")
def folder(hopper_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def robot(folder: Path, tiny_cell: Build) -> Record:
    return backbench.run_cell(tiny_cell("mlp", eval=ROBOT, train=FALLS), folder)


def targets_of(record: Record) -> tuple[TargetScore, ...]:
    assert record.scores is not None, record.failure
    return record.scores.last.targets


def played(agent: Player, seed: int) -> float:
    """The return of an episode in the plain environment of the agent's task."""
    env = gymnasium.make(agent.cell.task.env_id, **agent.cell.task.env_kwargs)
    agent.check(env)
    observation, reward, total = env.reset(seed=seed)[0], None, 0.0
    for _ in range(agent.max_steps):
        observation, reward, terminated, truncated, _ = env.step(agent.act(observation, reward))
        total += float(reward)
        if terminated or truncated:
            break
    env.close()
    return total


def every_episode(agent: Player) -> list[list[float]]:
    """The returns of the record's episodes, played one at a time, for each target."""
    found = []
    for target in agent.targets:
        returns = []
        for number, seed in enumerate(agent.seeds):
            agent.reset(target, episode=number)
            returns.append(played(agent, seed))
        found.append(returns)
    return found


@pytest.mark.parametrize("acting", ["window", "recurrent"])
def test_every_episode_of_the_record_has_its_return_to_the_digit(acting: str, folder: Path, tiny_cell: Build) -> None:
    cell = tiny_cell("gloma", eval=replace(ROBOT, acting=acting), train=FALLS)
    record = backbench.run_cell(cell, folder)
    scores = targets_of(record)
    assert len({length for score in scores for length in score.lengths}) > 1, "no episode leaves the batch early"
    assert every_episode(backbench.load_agent(record, folder)) == [list(score.returns) for score in scores]


def test_sampled_actions_of_a_memory_task_are_the_record_s(folder: Path) -> None:
    (cell,) = planned(["gru"], "memory", "smoke", [0], ["repeat-4"], overrides=["eval.episodes=4"])
    env_id, kwargs = cell.task.env_id, dict(cell.task.env_kwargs)
    env = gymnasium.make(env_id, **kwargs).unwrapped
    store.write("api/repeat/x-v0", [play(env, number) for number in range(20)], env_id, {}, **kwargs)
    cell = replace(cell, task=replace(cell.task, data_id="api/repeat/x-v0"))
    record = backbench.run_cell(cell, folder)
    returns = [list(score.returns) for score in targets_of(record)]
    assert len(set(returns[0])) > 1, "all episodes earn the same: the test sees nothing"
    assert every_episode(backbench.load_agent(record, folder)) == returns


def test_a_filter_of_observations_is_that_of_the_evaluation(folder: Path, tiny_cell: Build) -> None:
    cell = tiny_cell("gloma", eval=ROBOT, train=FALLS)
    cell = replace(cell, task=replace(cell.task, observe=Observe(keep=(4, 0), missing=0.5)))
    record = backbench.run_cell(cell, folder)
    agent = backbench.load_agent(record, folder)
    assert agent.observation_space.shape == (11,)
    assert every_episode(agent) == [list(score.returns) for score in targets_of(record)]


def test_a_single_episode_needs_its_seed_alone(folder: Path, tiny_cell: Build) -> None:
    cell = tiny_cell("mlp", eval=EvalConfig(episodes=1, max_steps=250, targets=(3600.0,)), train=FALLS)
    record = backbench.run_cell(cell, folder)
    agent = backbench.load_agent(record, folder)
    agent.reset(seed=cell.eval.seed)
    assert [played(agent, agent.seeds[0])] == list(targets_of(record)[0].returns)


def test_a_batch_plays_as_the_evaluation_does(folder: Path, tiny_cell: Build) -> None:
    cell = tiny_cell("mlp", eval=EvalConfig(episodes=2, max_steps=250, targets=(3600.0,)), train=FALLS)
    record = backbench.run_cell(cell, folder)
    score = targets_of(record)[0]
    assert score.lengths[0] != score.lengths[1], "they end together: no row is dropped"
    agent = backbench.load_agent(record, folder)
    agent.reset(seed=cell.eval.seed, batch=2)
    envs = [gymnasium.make("Hopper-v5") for _ in range(2)]
    observations: Any = np.stack([env.reset(seed=seed)[0] for env, seed in zip(envs, agent.seeds, strict=True)])
    rewards, running, returns = None, [0, 1], [0.0, 0.0]
    for _ in range(agent.max_steps):
        actions = agent.act(observations, rewards)
        assert actions.shape == (len(running), 3)
        steps = [envs[row].step(action) for row, action in zip(running, actions, strict=True)]
        for row, step in zip(running, steps, strict=True):
            returns[row] += float(step[1])
        going = np.array([not (step[2] or step[3]) for step in steps])
        if not going.any():
            break
        if not going.all():
            agent.keep(going)
        observations = [step[0] for step, stays in zip(steps, going, strict=True) if stays]
        rewards = [step[1] for step, stays in zip(steps, going, strict=True) if stays]
        running = [row for row, stays in zip(running, going, strict=True) if stays]
    assert returns == list(score.returns)


@pytest.fixture(scope="module")
def game(folder: Path) -> Record:
    rng = np.random.default_rng(0)
    episodes = [
        Episode(rng.integers(0, 255, (n + 1, 84, 84), dtype=np.uint8), rng.integers(0, 4, n), np.ones(n), True, n)
        for n in (20, 30)
    ]
    framestore.write("api/breakout/x-v0", episodes, 4, {})
    task = replace(suites.resolve("atari", "breakout", "embedded"), data_id="api/breakout/x-v0")
    cell = Cell(
        "mlp", task, "smoke", model=ModelConfig(d_model=16, n_layers=1, context=4),
        train=TrainConfig(steps=2, batch_size=4, warmup=1), eval=EvalConfig(episodes=1, max_steps=200, targets=(90.0,)),
        atari=AtariProtocol(),
    )  # fmt: skip
    return backbench.run_cell(cell, folder)


@pytest.mark.parametrize("stacked", [True, False])
def test_frames_of_a_game_are_stacked_as_in_the_evaluation(stacked: bool, game: Record, folder: Path) -> None:
    agent = backbench.load_agent(game, folder)
    agent.reset(episode=0)
    env = AtariBatch("breakout", 1)
    states, total, reward = env.reset(agent.seeds), 0.0, None
    for _ in range(agent.max_steps):
        action = agent.act(states[0] if stacked else states[0, -1], reward)
        states, rewards, ended = env.step([0], np.array([action]))
        reward = rewards[0]
        total += reward
        if ended[0]:
            break
    env.close()
    assert [total] == list(targets_of(game)[0].returns)
    with pytest.raises(UserError, match=r"an observation is float64 \(84, 84\), and the agent takes frames, uint8"):
        agent.act(np.zeros((84, 84)), 0.0)


def test_without_a_reset_an_episode_begins_with_the_defaults(robot: Record, folder: Path) -> None:
    fresh, agent = backbench.load_agent(robot, folder), backbench.load_agent(robot, folder)
    agent.reset(target=3600.0, seed=0)
    assert played(fresh, 7) == played(agent, 7)


def test_a_reset_leaves_nothing_of_the_episode_before(robot: Record, folder: Path) -> None:
    agent = backbench.load_agent(robot, folder)
    first = played(agent, 7)
    agent.reset()
    assert played(agent, 7) == first
    agent.reset(target=-1000.0)
    assert played(agent, 7) != first, "the target changes nothing: the test sees nothing"


def test_a_wrong_call_changes_nothing(robot: Record, folder: Path) -> None:
    agent = backbench.load_agent(robot, folder)
    expected = played(agent, 7)
    agent.reset()
    env = gymnasium.make("Hopper-v5")
    observation, reward, total = env.reset(seed=7)[0], None, 0.0
    for _ in range(agent.max_steps):
        with pytest.raises(UserError, match="act: "):
            agent.act(observation[:5], reward)
        with pytest.raises(UserError, match="act: "):
            agent.act(observation, np.nan)
        observation, reward, terminated, _, _ = env.step(agent.act(observation, reward))
        total += float(reward)
        if terminated:
            break
    assert total == expected


class WithSpaces:
    """As much of an environment as ``check`` looks at."""

    observation_space = gymnasium.spaces.Dict(
        {
            "seen": gymnasium.spaces.Box(np.arange(40.0), np.arange(40.0) + 1, dtype=np.float64),
            "goal": gymnasium.spaces.Box(-1, 1, (2,)),
        }
    )
    action_space = gymnasium.spaces.Discrete(2)


MISTAKES: list[tuple[Callable[[Player], object], str]] = [
    (lambda a: a.act(np.zeros(17)), r"shape \(17,\), and the agent takes Box\(-inf, inf, \(11,\), float64\)"),
    (lambda a: a.act({"observation": np.zeros(11)}), r"shape {'observation': \(11,\)}"),
    (lambda a: a.act(None), "has the shape of None, and the agent takes"),
    (lambda a: a.act([[1.0], [1.0, 2.0]]), "ragged list"),
    (lambda a: a.act(np.full(11, np.nan)), "has NaN"),
    (lambda a: a.act(np.array([None] * 11)), "no numbers"),
    (lambda a: a.act(np.zeros(11), 1.0), "the first call of an episode has no reward; call reset"),
    (lambda a: (a.act(np.zeros(11)), a.act(np.zeros(11))), "give the reward of the last action"),
    (lambda a: (a.act(np.zeros(11)), a.act(np.zeros(11), "much")), "reward='much'; give a number"),
    (
        lambda a: (a.reset(batch=2), a.act(np.zeros((3, 11)))),
        r"give 2 observations, one a row; got the shape \(3, 11\)",
    ),
    (lambda a: (a.reset(batch=2), a.act(np.zeros((2, 11))), a.act(np.zeros((2, 11)), 1.0)), "give 2 numbers"),
    (lambda a: a.reset(batch=0), "batch=0; give a whole number, 1 to 100,000"),
    (lambda a: a.reset(batch=10**9), "batch=1000000000; give a whole number"),
    (lambda a: a.reset(seed=-1), "seed=-1; give a whole number of 0 or more"),
    (lambda a: a.reset(target=np.inf), "target=inf; give a number up to 1e"),
    (lambda a: a.reset(target="high"), "target='high'; give a number up to"),
    (lambda a: a.reset(target=[1, 2], batch=3), "one for each of 3 rows"),
    (lambda a: a.reset(episode=3), "the record has episodes 0 to 2"),
    (lambda a: a.reset(episode=0.5), "the record has episodes 0 to 2"),
    (lambda a: a.reset(target=1.0, episode=0), "the record has 3600, 1800"),
    (lambda a: a.reset(episode=0, batch=2), "leave seed and batch out"),
    (lambda a: a.keep([0]), "there is no batch"),
    (lambda a: (a.reset(batch=2), a.keep([2])), "give some of 0 to 1, each once, or 2 booleans"),
    (lambda a: (a.reset(batch=2), a.keep([0, 0])), "each once, or 2 booleans"),
    (lambda a: a.act(np.full(11, 1e39)), "a number beyond 1e"),
    (lambda a: (a.act(np.zeros(11)), a.act(np.zeros(11), 1e300)), "reward=1e\\+300; give a number"),
    (lambda a: (a.reset(batch=2), a.keep([False, False])), "give some of 0 to 1"),
    (
        lambda a: a.check(gymnasium.make("Walker2d-v5")),
        r"observations Box\(-inf, inf, \(17,\).*takes Box\(-inf, inf, \(11,",
    ),
    (lambda a: a.check(gymnasium.make("Walker2d-v5")), r"actions Box\(-1.0, 1.0, \(6,\).*gives Box\(-1.0, 1.0, \(3,"),
    (lambda a: a.check(gymnasium.make("CartPole-v1")), r"actions Discrete\(2\)"),
    (lambda a: a.check(WithSpaces()), r"observations Dict of goal \(2,\), seen \(40,\), and the agent takes Box"),
    (lambda a: a.check(object()), "object has no spaces; give a Gymnasium environment"),
]


@pytest.mark.parametrize(("call", "said"), MISTAKES, ids=[said for _, said in MISTAKES])
def test_a_mistake_is_one_line(call: Callable[[Player], object], said: str, robot: Record, folder: Path) -> None:
    with pytest.raises(UserError, match=said) as caught:
        call(backbench.load_agent(robot, folder))
    assert "\n" not in str(caught.value)


def test_a_vector_of_the_right_environments_fits(robot: Record, folder: Path) -> None:
    envs = gymnasium.make_vec("Hopper-v5", num_envs=2)
    agent = backbench.load_agent(robot, folder)
    agent.check(envs)
    agent.reset(target=[3600, 1800], batch=2)
    assert envs.action_space.contains(agent.act(envs.reset(seed=0)[0]))
    envs.close()


def test_a_record_is_found_by_its_path_its_key_and_its_checkpoints(robot: Record, folder: Path) -> None:
    places = [folder / "records" / f"{robot.key}.json", robot.key[:-3], folder / "checkpoints" / robot.key]
    returns = {played(backbench.load_agent(place, folder), 7) for place in (robot, *places)}
    assert len(returns) == 1


def test_loading_and_acting_leave_torch_as_it_was(robot: Record, folder: Path) -> None:
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        backbench.load_agent(robot, folder).act(np.zeros(11))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.are_deterministic_algorithms_enabled()


def test_records_are_read_and_agents_play_without_hydra(
    robot: Record, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("hydra", "omegaconf", "mlflow"):
        monkeypatch.setitem(sys.modules, name, None)
    assert robot.key in [record.key for record in backbench.load_records(folder)]
    backbench.load_agent(robot.key, folder).act(np.zeros(11))
    with pytest.raises(ImportError):
        backbench.cell("mlp", "hopper-medium")


def test_weights_that_are_not_the_record_s_are_refused(robot: Record, folder: Path, tmp_path: Path) -> None:
    other = robot.model_copy(deep=True)
    other.provenance.__dict__["weights_sha256"] = "0" * 64
    with pytest.raises(UserError, match="are not those that the record was made with"):
        backbench.load_agent(other, folder)
    with pytest.raises(UserError, match="no weights"):
        backbench.load_agent(robot, tmp_path)
    (tmp_path / "checkpoints" / "x").mkdir(parents=True)
    with pytest.raises(UserError, match=r"there is no record x.json beside the checkpoints"):
        backbench.load_agent(tmp_path / "checkpoints" / "x")
    with pytest.raises(UserError, match="give one of window, recurrent"):
        backbench.load_agent(robot, folder, acting="windows")
    with pytest.raises(UserError, match="is not available"):
        backbench.load_agent(robot, folder, device="cuda:99")


def test_a_failed_record_has_no_agent(folder: Path, tiny_cell: Build) -> None:
    record = backbench.run_cell(tiny_cell("mlp", train=replace(FALLS, lr=1e30)), folder)
    assert record.status == "failed"
    with pytest.raises(UserError, match="failed, so it has no weights"):
        backbench.load_agent(record, folder)
