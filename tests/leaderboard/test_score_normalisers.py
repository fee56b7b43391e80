from __future__ import annotations

import pytest

from backbench.leaderboard.normalise import d4rl_bounds, d4rl_score, normalise


@pytest.mark.parametrize(
    ("environment", "low", "high"),
    [("halfcheetah", -280.178953, 12135.0), ("hopper", -20.272305, 3234.3), ("walker2d", 1.629008, 4592.3)],
)
def test_d4rl(environment: str, low: float, high: float) -> None:
    assert d4rl_bounds(environment) == (low, high)
    assert d4rl_score(environment, low) == 0.0
    assert d4rl_score(environment, high) == 100.0
    assert d4rl_score(environment, (low + high) / 2) == pytest.approx(50.0)
    assert normalise("d4rl", f"{environment}-medium-replay", high) == 100.0


def test_others() -> None:
    assert normalise("none", "anything", 7.5) == 7.5
    with pytest.raises(KeyError, match="no normaliser 'gamer'"):
        normalise("gamer", "breakout", 1.0)
    with pytest.raises(KeyError, match="breakout"):
        normalise("d4rl", "breakout", 1.0)
