"""The pages list every option with its default, and every implementation."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from backbench.backbones import BACKBONES
from backbench.backbones.kernels import OPERATIONS, chosen

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "backbones.md").read_text()


@pytest.mark.parametrize("name", [name for name in BACKBONES.names() if BACKBONES.origin(name) == "built-in"])
def test_every_option_is_listed_with_its_default(name: str) -> None:
    assert f"`{name}`" in PAGE
    section = PAGE.partition(f"### `{name}`\n")[2].partition("\n###")[0]
    for field in dataclasses.fields(BACKBONES.get(name).Options):
        default = str(field.default).lower() if isinstance(field.default, bool) else field.default
        assert f"| `{field.name}` | {default} |" in section


def test_every_open_point_of_gloma_is_an_option_with_a_reason() -> None:
    page = (DOCS / "gloma.md").read_text()
    for field in dataclasses.fields(BACKBONES.get("gloma").Options):
        assert f"`{field.name}`" in page


def test_every_implementation_is_listed() -> None:
    for operation in OPERATIONS.values():
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{operation.name}`"))
        assert all(f"`{name}`" in row for name in operation.table)
        assert row.endswith(f"| `{chosen(operation.name)}` |")
