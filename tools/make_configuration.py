"""Write the tables of settings, presets and options into their pages from the dataclasses and configs/preset.

Run ``PYTHONPATH=src python tools/make_configuration.py`` after a setting, a preset or an option changed. What a field
means is its comment in the code. A page says where a table goes: ``<!-- table: settings model -->``. A test compares.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from field_comments import field_comments

from backbench.backbones import BACKBONES
from backbench.benchmarks.environments.atari.protocol import AtariProtocol
from backbench.benchmarks.plan.settings import DataConfig, EvalConfig, ModelConfig, TrainConfig

ROOT = Path(__file__).resolve().parents[1]
PAGES = tuple(ROOT / "docs" / "reference" / name for name in ("configuration.md", "built-in-backbones.md"))
GROUPS = {"model": ModelConfig, "data": DataConfig, "train": TrainConfig, "eval": EvalConfig, "atari": AtariProtocol}
TABLE = re.compile(r"(<!-- table: (\w+) ([\w-]+) -->\n).*?(<!-- end of the table -->)", re.DOTALL)


def written(page: str) -> str:
    """``page`` with its tables as they should be. KeyError: a table of something unknown."""
    kinds = {"settings": settings, "preset": preset, "options": options}
    return TABLE.sub(lambda match: "\n".join([match[1], *kinds[match[2]](match[3]), "", match[4]]), page)


def settings(group: str) -> Iterator[str]:
    """Every key of a group, such as ``model``."""
    yield from _fields(GROUPS[group], "key", f"{group}.")


def options(backbone: str) -> Iterator[str]:
    """Every option of a backbone."""
    yield from _fields(BACKBONES.get(backbone).Options, "option", "")


def preset(name: str) -> Iterator[str]:
    """What a preset sets: a column for each file. Then what it sets for single tasks, backbones and suites."""
    folder = ROOT / "configs" / "preset"
    files = {"": folder / f"{name}.yaml"} | {one.parent.name: one for one in sorted(folder.glob(f"*/{name}.yaml"))}
    read = {suite: yaml.safe_load(path.read_text(encoding="utf-8")) for suite, path in files.items()}
    columns = {suite: dict(_flat(content)) for suite, content in read.items()}
    titles = [f"suite `{suite}`" if suite else "other suites" if len(files) > 1 else "value" for suite in files]
    yield f"| key | {' | '.join(titles)} |"
    yield "|---" * (1 + len(files)) + "|"
    known = [f"{group}.{field.name}" for group, kind in GROUPS.items() for field in dataclasses.fields(kind)]
    for key in sorted({key for one in columns.values() for key in one}, key=known.index):
        cells = [_typed(one[key]) if key in one else "–" for one in columns.values()]
        yield f"| `{key}` | {' | '.join(cells)} |"
    special = [line for suite, content in read.items() for line in _special(suite, content.get("special", {}))]
    if special:
        yield ""
        yield from special


def _fields(kind: type, title: str, prefix: str) -> Iterator[str]:
    said: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if dataclasses.is_dataclass(one):
            said |= field_comments(inspect.getsource(one))
    yield f"| {title} | type | default | |"
    yield "|---|---|---|---|"
    for field in dataclasses.fields(kind):
        sort = field.type.__name__ if type(field.type) is type else str(field.type)
        yield f"| `{prefix}{field.name}` | {sort} | {_typed(field.default)} | {said[field.name]} |"


def _flat(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for group in GROUPS.keys() & content.keys():
        yield from ((f"{group}.{key}", value) for key, value in content[group].items())


def _special(suite: str, special: Mapping[str, Any]) -> Iterator[str]:
    """Lines of a list: for whom the preset sets what."""
    where = f"Suite `{suite}`, " if suite else ""
    for kind, entries in special.items():
        named = entries.items() if isinstance(entries, Mapping) else [("", entries)]
        for name, changes in named:
            whom = f"{kind.removesuffix('s')} `{name}`" if name else "whatever a suite declares"
            line = f"{where}{whom}: {', '.join(f'`{change}`' for change in changes)}"
            line = f"* {line[0].upper()}{line[1:]}"
            yield from textwrap.wrap(line, 120, subsequent_indent="  ", break_on_hyphens=False)


def _typed(value: Any) -> str:
    """A value as it is typed in an override."""
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
        print(f"written: {path.relative_to(ROOT)}")
