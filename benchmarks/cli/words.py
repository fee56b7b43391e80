"""From the words of a command line to values, and what shell completion offers."""

from pathlib import Path
from typing import Any

from backbench.errors import UserError


def split(text: str) -> tuple[str, ...]:
    """The parts of a comma-separated list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def seeds(text: str) -> tuple[int, ...]:
    """``3`` is 0, 1, 2; ``4,7`` is that list."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(f"--seeds {text}: give a count such as 3, or a list such as 0,1,2") from error
    found = tuple(range(numbers[0])) if len(numbers) == 1 else tuple(numbers)
    if not found or min(found) < 0:
        raise UserError(f"--seeds {text}: give at least one seed, none below 0")
    return found


def options(pairs: list[str]) -> dict[str, Any]:
    """Options of a backbone from ``key=value`` or ``backbone.key=value``."""
    from backbench.reading import parse_yaml

    found = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise UserError(f"option '{pair}': write key=value")
        found[key.removeprefix("backbone.")] = parse_yaml(value, f"option '{pair}'")
    return found


# Completion, an option a function. Imports happen in the functions, so that help is instant.
def _ending(incomplete: str, names: list[str]) -> list[str]:
    """Completions of the last part of a comma-separated list."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in names if name.startswith(last)]


def backbones(incomplete: str) -> list[str]:
    from backbench.backbones import BACKBONES

    return _ending(incomplete, BACKBONES.names())


def suites(incomplete: str) -> list[str]:
    from backbench.benchmarks.plan import suites as known

    return _ending(incomplete, known.suites())


def tasks(ctx: Any, incomplete: str) -> list[str]:
    from backbench.benchmarks.plan import suites as known

    return _ending(incomplete, known.names(ctx.params.get("suite") or "d4rl"))


def presets(incomplete: str) -> list[str]:
    from backbench.benchmarks.plan import compose

    return _ending(incomplete, compose.presets())


def sources(incomplete: str) -> list[str]:
    from backbench.benchmarks.data.sources import SOURCES

    return _ending(incomplete, SOURCES.names())


def records(incomplete: str) -> list[str]:
    return [path.stem for path in sorted(Path("results/records").glob(f"{incomplete}*.json"))]
