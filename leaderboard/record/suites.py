"""Which tasks make a suite. A backbone has an aggregate only if it has a score on every one of them."""

_GYM = ("halfcheetah", "hopper", "walker2d")


def _pairs(environments: tuple[str, ...], kinds: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{environment}-{kind}" for environment in environments for kind in kinds)


_D4RL = _pairs(_GYM, ("medium", "medium-replay", "medium-expert"))
_GAMES = ("breakout", "qbert", "pong", "seaquest")
_MEMORY = (
    "tmaze-24", "tmaze-96", "tmaze-256", "repeat-4", "repeat-16", "copy-12", "copy-32", "recall-8", "recall-32",
    "parity", "count",
)  # fmt: skip
SUITES: dict[str, tuple[str, ...]] = {
    "d4rl": _D4RL,
    "d4rl-positions": _D4RL,
    "d4rl-missing": _D4RL,
    "atari": _GAMES,
    "atari-1frame": _GAMES,
    "mujoco": _pairs(_GYM, ("simple", "medium", "expert")),
    "d4rl-adroit": _pairs(("pen", "door", "hammer", "relocate"), ("human", "cloned", "expert")),
    "d4rl-antmaze": _pairs(
        ("antmaze",), ("umaze", "umaze-diverse", "medium-play", "medium-diverse", "large-play", "large-diverse")
    ),
    "d4rl-pointmaze": _pairs(
        ("pointmaze",), ("open", "umaze", "medium", "large", "open-dense", "umaze-dense", "medium-dense", "large-dense")
    ),
    "d4rl-kitchen": _pairs(("kitchen",), ("complete", "partial", "mixed")),
    "memory": _MEMORY,
    "memory-seen": _MEMORY,
    "memory-length": ("tmaze-24", "repeat-4", "copy-12", "parity", "count"),
    "memory-long": ("tmaze-long",),
}
"""Suite -> its tasks, in the order of the tables."""

# Suite -> the normaliser of its scores, and for ``declared`` the returns of each task that score 0 and 100.
NORMALISERS: dict[str, str] = (
    dict.fromkeys(SUITES, "d4rl")
    | dict.fromkeys(("atari", "atari-1frame"), "dt-gamer")
    | dict.fromkeys(("memory", "memory-seen", "memory-length", "memory-long"), "declared")
)
_TWO_ANSWERS = ("tmaze", "parity")  # the other memory tasks have four
REFERENCES: dict[str, dict[str, tuple[float, float]]] = {
    suite: {task: (0.5 if task.startswith(_TWO_ANSWERS) else 0.25, 1.0) for task in SUITES[suite]}
    for suite, normaliser in NORMALISERS.items()
    if normaliser == "declared"
}

# Further scales, beside the one of the protocol, that papers give a suite's scores on.
ALSO: dict[str, tuple[str, ...]] = dict.fromkeys(("atari", "atari-1frame"), ("none", "atari-human"))
