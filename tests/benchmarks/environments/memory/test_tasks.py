"""Memory tasks: their references hold for exact policies, and only the past, or the twin, gives the answer away."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from backbench.benchmarks.environments import memory
from backbench.benchmarks.environments.memory.script import NONE, MemoryTask
from backbench.errors import UserError

NAMES = ["tmaze-9", "repeat-2", "copy-4", "recall-4", "parity-24", "count-24"]
Rule = Callable[[MemoryTask, int, bytes, int], int]  # (task, t, observation, right answers so far) to an action


def made(name: str) -> MemoryTask:
    memory.register()
    env_id, kwargs = memory.named(name)
    env = gymnasium.make(env_id, **kwargs).unwrapped
    assert isinstance(env, MemoryTask)
    return env


def played(env: MemoryTask, rule: Rule, episodes: int, first: int = 0) -> tuple[float, float]:
    """Mean return, and its standard error."""
    returns = []
    for seed in range(first, first + episodes):
        observation, _ = env.reset(seed=seed)
        total, right, over, time = 0.0, 0, False, 0
        while not over:
            observation, reward, over, _, _ = env.step(rule(env, time, observation.tobytes(), right))
            total, right, time = total + reward, right + (reward > 0), time + 1
        assert time == env.steps
        returns.append(total)
    return float(np.mean(returns)), float(np.std(returns) / episodes**0.5)


def close(found: tuple[float, float], wanted: float) -> bool:
    return abs(found[0] - wanted) <= 4 * found[1] + 1e-9


@pytest.mark.parametrize("name", [*NAMES, *(f"{name}-seen" for name in NAMES)])
def test_gymnasium_accepts_it(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(made(name), skip_render_check=True)


@pytest.mark.parametrize("name", NAMES)
def test_the_oracle_with_noise_earns_what_the_formula_says(name: str) -> None:
    env, rng = made(name), np.random.default_rng(1)
    assert played(env, lambda task, *_: task.oracle, 50) == (pytest.approx(1.0), pytest.approx(0.0, abs=1e-6))
    assert played(env, lambda task, *_: task.oracle, 50)[0] <= 1, "sums are exact"
    for share in (0.3, 0.7, 1.0):

        def noisy(task: MemoryTask, *_: Any, share: float = share) -> int:
            return int(rng.integers(1 + task.answers)) if rng.random() < share else task.oracle

        assert close(played(env, noisy, 1500), 1 - share + share / (1 + env.answers)), share


@pytest.mark.parametrize("name", NAMES)
def test_no_rule_without_memory_beats_one_answer_in_a(name: str) -> None:
    """Not even the likeliest answer to each (t, observation, right answers so far), learned under a rule that writes
    what it sees into the return."""
    env = made(name)
    seen: dict[Any, Counter[int]] = defaultdict(Counter)

    def writes(task: MemoryTask, time: int, observation: bytes, right: int) -> int:
        seen[time, observation, right][task.oracle] += 1
        return 1 + hash_of(time, observation, right) % task.answers

    def learned(task: MemoryTask, time: int, observation: bytes, right: int) -> int:
        known = seen.get((time, observation, right))
        return known.most_common(1)[0][0] if known else 1

    assert close(played(env, writes, 3000), 1 / env.answers)
    assert close(played(env, learned, 3000, first=10_000), 1 / env.answers)


def hash_of(*parts: Any) -> int:
    return hashlib.sha256(repr(parts).encode()).digest()[0]


@pytest.mark.parametrize("name", NAMES)
def test_one_step_of_the_twin_is_enough(name: str) -> None:
    env = made(f"{name}-seen")

    def reads(task: MemoryTask, time: int, observation: bytes, right: int) -> int:
        hidden = np.frombuffer(observation, np.float32)[-task.answers :]
        return 1 + int(hidden.argmax()) if hidden.any() else 0

    assert played(env, reads, 50)[0] == pytest.approx(1.0)
    plain, other = made(name), env
    for seed in range(5):
        assert np.array_equal(plain.reset(seed=seed)[0], other.reset(seed=seed)[0][: -env.answers]), "the same episode"


def test_episodes_by_hand() -> None:
    def script(name: str, seed: int = 3) -> Any:
        return made(name).draw(np.random.default_rng(seed))

    shown, answers, hidden = script("tmaze-5")
    assert shown[1:].argmax(1).tolist() == [2, 2, 2, 3]
    assert answers.tolist() == [NONE] * 4 + [shown[0].argmax()]
    assert set(hidden.tolist()) == {shown[0].argmax()}

    shown, answers, _ = script("repeat-2")
    symbols = shown.argmax(1).tolist()
    assert answers.tolist() == [NONE, NONE, *symbols[:-2]]

    shown, answers, _ = script("copy-4")
    assert shown[4:].argmax(1).tolist() == [4] * 4
    assert answers[4:].tolist() == shown[:4].argmax(1).tolist()[::-1]

    shown, answers, _ = script("recall-4")
    values = {int(row[:4].argmax()): int(row[4:].argmax()) for row in shown[:4]}
    assert len(values) == 4
    assert not shown[4:, 4:].any()
    assert answers[4:].tolist() == [values[int(row[:4].argmax())] for row in shown[4:]]

    gaps = set()
    for seed in range(200):
        shown, answers, hidden = script("count-24", seed)
        begin = state = 0
        for time, what in enumerate(shown.argmax(1).tolist()):
            if what < 4:
                begin, state = time, what
            elif what == 5:
                state = (state + 1) % 4
            elif what == 6:
                gaps.add(time - begin)
                assert answers[time] == state
            assert what == 6 or answers[time] == NONE
            assert hidden[time] in (state, NONE)
    assert gaps == {1, 2, 3, 4, 5, 6}


def test_equal_seeds_give_equal_episodes_on_every_machine() -> None:
    digest = hashlib.sha256()
    for name in NAMES:
        for seed in (0, 1, 2**32 + 7):
            for part in made(name).draw(np.random.default_rng(seed)):
                digest.update(np.ascontiguousarray(part).tobytes())
    assert digest.hexdigest()[:16] == "10020f6a97900d93"


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [("TMaze", "length", 1), ("Repeat", "lag", 0), ("Repeat", "length", 4), ("Copy", "symbols", 2.0),
     ("Recall", "pairs", True), ("Count", "length", 10**9), ("Parity", "length", "24")],
)  # fmt: skip
def test_a_size_that_makes_no_task_is_one_line(name: str, argument: str, value: Any) -> None:
    memory.register()
    with pytest.raises(UserError, match=rf"^{argument}={value!r}: give a whole number of at least \d+"):
        gymnasium.make(f"backbench/{name}-v0", **{argument: value})


@pytest.mark.parametrize(
    "name", ["tmaze", "tmaze-", "tmaze-x", "maze-24", "tmaze-24-hidden", "tmaze-24-seen-seen", "-"]
)
def test_other_names_are_no_tasks(name: str) -> None:
    with pytest.raises(KeyError):
        memory.named(name)
