"""What messages and help texts advise exists: commands, flags, settings, packages and targets of make."""

from __future__ import annotations

import ast
import dataclasses
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from paths import ROOT

import backbench
from backbench.backbones import BACKBONES
from backbench.benchmarks.cli.app import app
from backbench.benchmarks.plan.compose import GROUPS

PRODUCT = Path(backbench.__file__).parent
FLAG, COMMAND = r"(?<![\w-])--[a-z][a-z-]+", r"\bbench ([a-z]+)(?: ([a-z]+))?"
SETTING = r"\b((?:train|model|eval|data|atari|backbone)\.[a-z_]+)="
PACKAGE = r"pip install ((?:--[\w-]+ |'?[A-Za-z][\w.-]*[\w\[\]<>=,.-]*'? ?)+)"
# Flags of other programs in commands that we run or recommend, of `python -m backbench.leaderboard render`, and of
# `python -m backbench.run_cell`.
OTHERS = {
    "--backend-store-uri", "--default-artifact-root", "--host", "--port", "--end-of-options", "--full-tree", "--pages",
    "--show-prefix", "--porcelain", "--untracked-files", "--no-build-isolation", "--no-deps", "--force-reinstall",
    "--serve-artifacts", "--no-serve-artifacts", "--artifacts-destination", "--quiet", "--verify", "--hard", "--help",
    "--others", "--exclude-standard", "--logdir", "--patience",
    "--test-only", "--parsable", "--job-name", "--array", "--output", "--open-mode", "--requeue", "--ntasks", "--me",
    "--noheader", "--states", "--format",
}  # fmt: skip
# Built for a GPU against the torch that is there, so in no extra.
KERNELS = {"mamba-ssm", "causal-conv1d", "flash-attn"}


@cache
def texts() -> tuple[tuple[str, str], ...]:
    """Place and content of every string of the product; a value in an f-string is ``…``."""
    found = []
    for path in sorted(_files(PRODUCT)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path.relative_to(PRODUCT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.JoinedStr):
                parts = [str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values]
                found.append((where, "".join(parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append((where, node.value))
    return tuple(found)


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir() and path.name not in ("__pycache__", "published"):
            yield from _files(path)
        elif path.suffix == ".py":
            yield path


def named(pattern: str) -> dict[str | tuple[str, ...], str]:
    """Everything that matches in a text, with a place where it does."""
    return {match: where for where, text in texts() for match in re.findall(pattern, text)}


@cache
def commands() -> dict[str, set[str]]:
    """Each command, ``data list`` as well, with its flags."""
    root, found = typer.main.get_command(app), {}
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        for inner, one in {"": command, **getattr(command, "commands", {})}.items():
            flags = {flag for param in one.params for flag in (*param.opts, *param.secondary_opts)}
            found[f"{name} {inner}".strip()] = flags
    return found


def test_every_flag_that_a_text_names_exists() -> None:
    known = set().union(*commands().values()) | OTHERS | {"--version"}
    assert {flag: where for flag, where in named(FLAG).items() if flag not in known} == {}


def test_every_command_that_a_text_names_exists() -> None:
    prose = {"writes", "wrote"}  # of what bench does
    wrong = {}
    for words, where in named(COMMAND).items():
        command = " ".join(words).strip() if words[0] == "data" else words[0]
        if command not in commands().keys() | prose:
            wrong[command] = where
    assert wrong == {}


def test_every_setting_that_a_text_names_exists() -> None:
    known = {f"{group}.{field.name}" for group, kind in GROUPS.items() for field in dataclasses.fields(kind)}
    for name in BACKBONES.names():
        known |= {f"backbone.{field.name}" for field in dataclasses.fields(BACKBONES.get(name).Options)}
    assert {key: where for key, where in named(SETTING).items() if key not in known | {"backbone.key"}} == {}


def test_every_package_that_a_text_recommends_is_one_of_ours() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needs = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    lock = (ROOT / "locks" / "run.txt").read_text(encoding="utf-8")
    known = {canonicalize_name(Requirement(one).name) for one in needs} | KERNELS | {"matplotlib", "backbench"}
    known |= set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))
    wrong = {}
    for words, where in named(PACKAGE).items():
        for word in str(words).replace("'", "").split():
            name = re.match(r"[\w.-]+", word)
            if not word.startswith("--") and name and canonicalize_name(name[0]) not in known:
                wrong[word] = where
    assert wrong == {}
    extras = set(re.findall(r"backbench\[(\w+)\]", " ".join(text for _, text in texts())))
    assert extras <= project["optional-dependencies"].keys()


def test_every_target_of_make_that_a_text_names_exists() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    said = named(r"(?:^|[;:,] |: |next: )make ([a-z-]+)")
    assert {target: where for target, where in said.items() if target not in targets | {"it", "them"}} == {}
    assert "leaderboard" in said


@pytest.mark.parametrize("words", ["bench dta list", "use --no-such-flag", "train.lrs=1"])
def test_wrong_advice_would_be_found(words: str) -> None:
    found = [re.findall(pattern, words) for pattern in (COMMAND, FLAG, SETTING)]
    assert any(found)
    assert "--no-such-flag" not in set().union(*commands().values())
