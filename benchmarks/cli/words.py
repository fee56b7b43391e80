"""From the words of a command line to values, and what shell completion offers."""

import itertools
import re
import sys
from pathlib import Path
from typing import Any

from backbench.errors import UserError, require
from backbench.text import plain


def split(text: str) -> tuple[str, ...]:
    """The parts of a comma-separated list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def backbone_names(text: str) -> tuple[str, ...]:
    """Comma-separated names; ``all`` stands for those that are registered and can be imported. A file's class,
    ``folder/mixer.py:Mine``, becomes ``mixer:Mine`` with its folder searched first, here and in worker processes."""
    names: list[str] = []
    for name in split(text):
        names += _importable() if name == "all" else ["+".join(map(_module_name, name.split("+")))]
    return tuple(dict.fromkeys(names) if "all" in split(text) else names)


def _importable() -> list[str]:
    """Registered backbones, without those of broken packages, which are named on the terminal."""
    from backbench import terminal
    from backbench.backbones import BACKBONES

    found = []
    for name in BACKBONES.names():
        try:
            BACKBONES.get(name)
        except UserError as error:
            terminal.line(f"bench: left out: {error}", error=True)
        else:
            found.append(name)
    return found


def _module_name(name: str) -> str:
    file, colon, attribute = name.rpartition(":")
    if not colon or not file.endswith(".py"):
        return name
    path = Path(file).absolute()
    if not path.is_file():
        raise UserError(f"no file {file} of backbone '{name}'; check its path")
    if not path.stem.isidentifier():
        raise UserError(f"backbone '{name}': rename the file: only letters, digits and underscores, and no digit first")
    if str(path.parent) not in sys.path[:1]:
        sys.path.insert(0, str(path.parent))
    return f"{path.stem}:{attribute}"


def seeds(text: str, most: int) -> tuple[int, ...]:
    """``3`` is 0, 1, 2; ``4,7`` is that list; ``10-19`` are ten seeds, ``7-7`` is one; not more than ``most``."""
    parts = [re.fullmatch(r"\s*(\d{1,10})\s*(?:-\s*(\d{1,10})\s*)?", part, re.ASCII) for part in text.split(",")]
    if any(part is None for part in parts):
        below = re.search(r"(^|,)\s*-\s*\d", text)
        said = "none below 0" if below else "a count such as 3, a list such as 0,1,2, or a range such as 10-19"
        raise UserError(f"--seeds {plain(text)[:80]}: give {said}")
    given = [(int(part[1]), part[2]) for part in parts if part]
    alone = len(given) == 1 and given[0][1] is None
    ranges = [range(given[0][0])] if alone else [range(low, int(high or low) + 1) for low, high in given]
    number = sum(map(len, ranges))
    if not number:
        raise UserError(f"--seeds {plain(text)[:80]}: give at least one seed")
    if number > most:
        one = f"; one seed alone is --seeds {number}-{number}" if alone else ""
        many = f"{number:,} seeds are over the limit of {most:,} cells"
        raise UserError(f"--seeds {plain(text)[:80]}: {many}; raise it with --max-cells {number}{one}")
    return tuple(itertools.chain(*ranges))


def options(pairs: list[str]) -> dict[str, Any]:
    """Options of a backbone from ``key=value`` or ``backbone.key=value``; a hybrid's are ``part.key=value``."""
    from backbench.reading import parse_yaml

    found: dict[str, Any] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise UserError(f"option '{pair}': write key=value")
        part, dot, name = key.removeprefix("backbone.").rpartition(".")
        group = found.setdefault(part, {}) if dot else found
        require(isinstance(group, dict), f"option '{plain(pair)[:80]}': {part} has a value already; remove that")
        group[name] = parse_yaml(value, f"option '{plain(pair)[:80]}'")
    return found


# Completion, an option a function. Imports happen in the functions, so that help is instant.
def _ending(incomplete: str, names: list[str], separators: str = ",") -> list[str]:
    """Completions of the last part of a list."""
    last = re.split(f"[{separators}]", incomplete)[-1]
    before = incomplete.removesuffix(last)
    return [f"{before}{name}" for name in names if name.startswith(last)]


def backbones(incomplete: str) -> list[str]:
    from backbench.backbones import BACKBONES

    return _ending(incomplete, BACKBONES.names(), ",+")


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
