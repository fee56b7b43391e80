"""The ideal predictor, against every possible episode of a tiny task, and against what the oracle plays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest

from backbench.benchmarks.data import sources, store
from backbench.benchmarks.data.sources import embedded_memory
from backbench.benchmarks.data.trajectories import Trajectories
from backbench.benchmarks.environments.memory import tasks
from backbench.benchmarks.environments.memory.ideal import LAYOUTS, ideal_loss, step_losses
from backbench.benchmarks.environments.memory.script import GRID, NONE, MemoryTask
from backbench.errors import UserError

NOISE = (0.0, 0.3, 0.7)
SHORT = 5  # steps of the longest task of which every action is tried; of longer ones one wrong action stands for all
Answers = tuple[int, ...]


def schedules(task: MemoryTask) -> Iterator[tuple[Answers, float]]:
    """Every set of steps that ask, with its probability. The answers are equal: they tell nothing about the actions."""
    if not isinstance(task, tasks.Counter):
        answers = task.draw(np.random.default_rng(0)).answers
        yield tuple(np.minimum(answers, 0).tolist()), 1.0
        return

    def rest(begin: int) -> Iterator[tuple[Answers, float]]:
        if begin + 1 >= task.steps:
            yield (NONE,) * (task.steps - begin), 1.0
            return
        for gap in range(1, 7):
            end = min(begin + gap, task.steps - 1)
            for later, chance in rest(end + 1):
                yield (*[NONE] * (end - begin), 0, *later), chance / 6

    yield from rest(0)


def seen(layout: str, answers: Answers, actions: tuple[int, ...], t: int) -> Any:
    """What a model sees before its prediction at ``t``."""
    asked = [answer != NONE for answer in answers]
    right = [answer != NONE and action == 1 + answer for answer, action in zip(answers, actions, strict=True)]
    returns = [float(np.float32(sum(right[s:]) * (GRID // sum(asked)) / GRID)) for s in range(t + 1)]
    # Observations up to t tell the right answers up to t, and nothing else of interest.
    return answers[: t + 1], returns[: t + 1] if "r" in layout else (), actions[:t] if "a" in layout else ()


@cache
def everything(task: str) -> list[tuple[Answers, tuple[int, ...], float]]:
    """Every episode of a tiny task: right answers, actions, probability. Action 2 of a long one is any wrong one."""
    made, found = made_task(task), defaultdict(float)
    others = 2 if made.steps > SHORT else 1 + made.answers
    for answers, chance in schedules(made):
        for turns in product(range(others), repeat=made.steps):  # 0 is right
            actions = tuple(
                (1 + answer + turn) % (1 + made.answers) for answer, turn in zip(answers, turns, strict=True)
            )
            for p in NOISE:
                wrong = p * made.answers / (1 + made.answers)
                each = np.where(np.array(turns) == 0, 1 - wrong, wrong / (others - 1))
                found[answers, actions] += chance / len(NOISE) * float(np.prod(each))
    return [(answers, actions, p) for (answers, actions), p in found.items() if p > 0]


@cache
def made_task(name: str) -> MemoryTask:
    if name == "copy":
        return tasks.Copy(symbols=2)  # two waits, two questions
    return tasks.TMaze(length=4) if name == "tmaze" else tasks.Counter(modulus=2, length=int(name))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("task", ["tmaze", "copy", "3", "5", "9"])
def test_its_probabilities_are_those_of_all_episodes(task: str, layout: str) -> None:
    """P(a_t | seen) is the probability of all episodes that look alike and have a_t over that of those that do not."""
    episodes, made = everything(task), made_task(task)
    assert sum(p for *_, p in episodes) == pytest.approx(1)
    alike: dict[Any, float] = defaultdict(float)
    keys = []
    for answers, actions, p in episodes:
        here = [(t, str(seen(layout, answers, actions, t))) for t in range(made.steps)]
        keys.append(here)
        for key, action in zip(here, actions, strict=True):
            alike[key] += p
            alike[key, action] += p
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(episodes))[:300]
    for number in chosen:
        answers, actions, _ = episodes[number]
        found = step_losses(made, np.array(answers), np.array(actions), NOISE, layout)
        wanted = [-np.log(alike[key, a] / alike[key]) for key, a in zip(keys[number], actions, strict=True)]
        wrong = np.array(actions) != 1 + np.array(answers)
        wanted += np.log(made.answers) * wrong * (made.steps > SHORT)
        assert found == pytest.approx(wanted, abs=1e-9), (answers, actions)


@pytest.fixture(scope="module")
def data() -> Trajectories:
    name = "backbench/memory/count-24-v1"
    sources.make_all([name], 1, lambda name: None)
    return store.read(name)


def test_more_tokens_never_make_it_worse_and_each_kind_helps(data: Trajectories) -> None:
    found = embedded_memory.ideal_losses(data, np.arange(1500))
    assert list(found) == list(LAYOUTS)
    assert found["rsa"] < found["sa"] - 0.01 < found["s"] - 0.02
    assert found["rsa"] < found["rs"] - 0.01 < found["s"] - 0.02


def test_without_the_past_it_is_the_entropy_of_the_mixture(data: Trajectories) -> None:
    """Right with 1 - mean p (1 - 1/5), and each of four other actions has a quarter of the rest."""
    right = 1 - np.mean(NOISE) * 4 / 5
    entropy = -right * np.log(right) - (1 - right) * np.log((1 - right) / 4)
    found = embedded_memory.ideal_losses(data, np.arange(1500))["s"]
    assert found == pytest.approx(entropy, abs=0.01)


def test_no_other_belief_about_the_noise_is_better(data: Trajectories) -> None:
    rng, task = np.random.default_rng(3), tasks.Counter(4, 24)
    episodes = []
    for number in range(600):
        actions = embedded_memory.play(task, number).actions
        episodes.append((task.script.answers, actions))
    for layout in LAYOUTS:
        best = ideal_loss(task, episodes, NOISE, layout)
        for _ in range(4):
            other = tuple(sorted(rng.uniform(0.02, 0.98, 3)))
            assert best < ideal_loss(task, episodes, other, layout), other


def test_it_knows_the_mean_of_what_it_will_lose(data: Trajectories) -> None:
    """A calibrated predictor loses its own entropy on average."""
    task, off = tasks.Counter(4, 24), []
    for number in range(900):
        actions = embedded_memory.play(task, number).actions
        answers = task.script.answers
        t = number % 24
        own = []
        for action in range(5):  # what it would lose at t for each action: that gives its distribution there
            other = actions.copy()
            other[t] = action
            own.append(step_losses(task, answers, other, NOISE, "sa")[t])
        p = np.exp(-np.array(own))
        assert p.sum() == pytest.approx(1)
        off.append(own[actions[t]] - float((p * own).sum()))
    assert abs(np.mean(off)) < 4 * np.std(off) / 30


def test_what_the_oracle_cannot_do_has_no_finite_loss() -> None:
    task = tasks.TMaze(length=4)
    found = step_losses(task, np.array([-1, -1, -1, 0]), np.array([0, 1, 0, 1]), (0.0,), "sa")
    assert np.isinf(found).tolist() == [False, True, True, True]


def test_data_that_are_not_the_generated_ones_are_refused(data: Trajectories) -> None:
    with pytest.raises(UserError, match="the ideal loss is known for generated memory tasks alone"):
        embedded_memory.ideal_losses(replace(data, name="mine/set-v0"), np.arange(3))
    actions = data.actions.copy()
    actions[5] = (actions[5] + 1) % 5
    with pytest.raises(UserError, match="episode 0 is not the generated one"):
        embedded_memory.ideal_losses(replace(data, actions=actions), np.arange(3))
