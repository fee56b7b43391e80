"""The same data on every processor: hashes of small sets under emulated ones, and the integer sampling."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import emulated_processors as emulated
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from backbench.benchmarks.data.policies import exact

GYM = [f"backbench/{name}-200-v1" for name in ("hopper/medium-expert", "halfcheetah/medium")]
OTHERS = ["backbench/walker2d/medium-replay-200-v1", "backbench/qbert/replay-300-v1", "backbench/memory/count-24-v1"]
EVERY = [*GYM, *OTHERS]


FEW = ("this one", "Sandy Bridge's kernels", "NumPy without AVX2 and AVX-512", "C library without AVX-512")


def hashes(arithmetic: str, names: list[str], folder: Path, processors: Iterable[str]) -> dict[str, str]:
    """What each emulated processor prints, two at a time."""
    found, left = {}, list(processors)
    while left:
        now, left = left[:2], left[2:]
        running = {one: emulated.start(one, arithmetic, names, folder / one.replace(" ", "-")) for one in now}
        for one, process in running.items():
            found[one] = process.communicate(timeout=300)[0]
            assert process.returncode == 0
    return found


@pytest.mark.parametrize("processors", [FEW, pytest.param((*emulated.PROCESSORS,), marks=pytest.mark.slow)], ids=len)
def test_every_processor_makes_the_same_bytes(tmp_path: Path, processors: tuple[str, ...]) -> None:
    found = hashes("exact", EVERY, tmp_path, processors)
    assert len(set(found.values())) == 1, found
    assert all(name in found["this one"] for name in EVERY)


def test_policies_in_float32_made_other_bytes_on_other_processors(tmp_path: Path) -> None:
    """The negative control: these emulations do change arithmetic."""
    found = hashes("float32", GYM, tmp_path, FEW[:3])
    assert sum(text != found["this one"] for text in found.values()) == 2, found


def test_actions_lie_on_a_grid_that_float32_holds() -> None:
    values = np.linspace(-1, 1, 10_001)
    found = exact.on_grid(values)
    assert np.array_equal(found, found.astype(np.float32))
    assert np.array_equal(found * 4096, np.rint(found * 4096))
    assert np.abs(found - values).max() <= 0.5 / 4096
    assert np.array_equal(found, exact.on_grid(values + 1e-12 * np.sign(values)))


@settings(deadline=None)
@given(arrays(np.float64, (3, 5), elements=st.floats(-30, 30)), st.integers(0, 2**32 - 1))
def test_a_sample_is_the_inverse_of_the_distribution(logits: np.ndarray, drawn: int) -> None:
    """Equal to the plain formula in rational numbers, and within 2^-20 of softmax."""
    found = exact.sample(logits, np.full(3, drawn / 2**32))
    for row, action in zip(logits, found, strict=True):
        steps = [round(float(np.rint(value * 4096))) for value in row]
        weights = [int(exact._weights()[min(max(steps) - step, exact.FARTHEST)]) for step in steps]
        below = [sum(weights[: i + 1]) * 2**32 <= drawn * sum(weights) for i in range(5)]
        assert action == sum(below)
        softmax = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        assert np.abs(np.array(weights) / sum(weights) - softmax).max() < 2e-3


def test_the_weights_are_those_of_exp() -> None:
    table = exact._weights()
    assert np.abs(table - 2**26 * np.exp(-np.arange(len(table)) / 4096)).max() <= 0.5 + 1e-6
    assert table[0] == 2**26
    assert table[-1] == 0
    assert 18 * int(table[0]) * 2**exact.DRAW_BITS < 2**63, "no overflow with the console's 18 actions"


@pytest.mark.parametrize("draw", [0.0, 1 - 2**-32])
def test_the_ends_of_a_draw_choose_an_action_with_a_weight(draw: float) -> None:
    logits = np.array([[-1e9, 0.0, -50.0, 0.0, -1e9]])
    assert exact.sample(logits, np.array([draw]))[0] == (1 if draw == 0 else 3)
