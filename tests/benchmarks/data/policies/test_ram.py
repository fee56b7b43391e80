"""Policies on the console's memory: the arithmetic, the draws, and the pack's file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ram_policies import made_up

from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.policies.ram import RamPolicy, load


def memories(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 128)).astype(np.uint8)


def generators(count: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, row]) for row in range(count)]


def test_logits_equal_a_plain_perceptron() -> None:
    arrays = {name: array.astype(np.float64) for name, array in made_up().items()}
    ram = memories(5)
    h = np.clip((ram - arrays["obs_mean"]) * arrays["obs_scale"], -10, 10)
    assert (np.abs(h) == 10).any(), "nothing was clipped"
    h = np.tanh(np.tanh(h @ arrays["w0"] + arrays["b0"]) @ arrays["w1"] + arrays["b1"])
    policy = RamPolicy.from_arrays(made_up())
    logits = policy.logits(ram)
    assert logits.dtype == np.float64
    assert policy.n_actions == 4
    np.testing.assert_allclose(logits, h @ arrays["w2"] + arrays["b2"], rtol=1e-12, atol=1e-12)


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(0, 1000), st.sampled_from([0.3, 1.0, 5.0]), st.sampled_from([0.0, 0.3, 1.0]))
def test_a_row_does_not_depend_on_the_others(rows: int, seed: int, temperature: float, epsilon: float) -> None:
    policy, ram = RamPolicy.from_arrays(made_up()), memories(rows, seed)
    together = policy.act(ram, generators(rows, seed), temperature, epsilon)
    rng = generators(rows, seed)
    alone = [policy.act(ram[i : i + 1], rng[i : i + 1], temperature, epsilon)[0] for i in range(rows)]
    assert together.tolist() == alone


@pytest.mark.parametrize(("temperature", "epsilon"), [(1.0, 0.0), (0.5, 0.0), (1.0, 0.5), (1.0, 1.0), (1e-6, 0.0)])
def test_samples_follow_the_declared_shares(temperature: float, epsilon: float) -> None:
    policy, ram = RamPolicy.from_arrays(made_up()), memories(1)
    logits = policy.logits(ram)[0].astype(np.float64) / temperature
    softmax = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    expected = epsilon / 4 + (1 - epsilon) * softmax
    count = 8000
    rng = np.random.default_rng(7)
    actions = policy.act(np.repeat(ram, count, axis=0), [rng] * count, temperature, epsilon)
    assert actions.dtype == np.int64
    shares = np.bincount(actions, minlength=4) / count
    assert np.abs(shares - expected).max() < 4 * 0.5 / np.sqrt(count)


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_a_call_takes_three_numbers_a_row(epsilon: float) -> None:
    rng, same = np.random.default_rng(1), np.random.default_rng(1)
    RamPolicy.from_arrays(made_up()).act(memories(1), [rng], 1.0, epsilon)
    same.random(3)
    assert rng.bit_generator.state == same.bit_generator.state


def test_a_missing_game_or_snapshot_is_named(tmp_path: Path) -> None:
    arrays = made_up()
    content = {f"expert/{name}": array for name, array in arrays.items()} | {"half/w0": arrays["w0"]}
    np.savez(tmp_path / "pong.npz", **content)
    policy = load("pong", "expert", tmp_path)
    assert all(array.dtype == np.float64 for array in policy.arrays.values())
    assert np.array_equal(policy.logits(memories(3)), RamPolicy.from_arrays(arrays).logits(memories(3)))
    for game, snapshot, said in (("pong", "exper", "no snapshot 'exper'"), ("qbert", "expert", "policies of 'qbert'")):
        with pytest.raises(DataError, match=said) as caught:
            load(game, snapshot, tmp_path)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="no snapshot 'half'"):
        load("pong", "half", tmp_path)
