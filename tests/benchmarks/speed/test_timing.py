"""Timed rounds take turns."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

from backbench.benchmarks.speed.timing import LEAST, interleave


def test_runs_take_turns_and_the_first_is_dropped() -> None:
    order: list[str] = []

    def sampler(name: str, seconds: float) -> Callable[[], list[float]]:
        def sample() -> list[float]:
            order.append(name)
            assert gc.isenabled() == (len(order) <= 2)  # the warm-up is no timed run
            time.sleep(seconds)
            return [seconds, float(len(order))]

        return sample

    taken = interleave({"slow": sampler("slow", 0.05), "fast": sampler("fast", 0.0)}, 6, seconds=0.2)
    assert order[:6] == ["slow", "fast", "slow", "fast", "fast", "slow"]
    assert gc.isenabled()
    assert len(taken["slow"]) == 2 * LEAST  # its half of the time was used up; each round gave two numbers
    assert len(taken["fast"]) == 2 * 6
    assert min(taken["slow"][1::2]) > 2
