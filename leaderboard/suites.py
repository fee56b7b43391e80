"""Which tasks make a suite: a backbone has an aggregate only when it has a score on every one of them."""

from __future__ import annotations

SUITES: dict[str, tuple[str, ...]] = {
    "d4rl": tuple(
        f"{environment}-{quality}"
        for environment in ("halfcheetah", "hopper", "walker2d")
        for quality in ("medium", "medium-replay", "medium-expert")
    ),
    "atari": ("breakout", "qbert", "pong", "seaquest"),
}


def suite_tasks(suite: str) -> tuple[str, ...]:
    """Tasks of a suite in the order of the tables. Raises ``KeyError`` that names the suites there are."""
    try:
        return SUITES[suite]
    except KeyError:
        raise KeyError(f"no suite {suite!r}; there is: {', '.join(SUITES)}") from None


# Further scales, beside the one of the protocol, that a suite's scores are customarily given on.
ALSO: dict[str, tuple[str, ...]] = {"atari": ("none", "atari-human")}
