"""The lock files: every dependency is in them with hashes, and they agree with pyproject.toml and each other."""

from __future__ import annotations

import re
import runpy
import subprocess
import tomllib
from functools import cache
from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OUTSIDE = {"torch", "backbench"}  # constraints.txt pins torch
# What an environment installs, and so where a dependency may be locked.
ENVIRONMENTS = {
    "run": ["run"],
    "test": ["run", "test"],
    "dev": ["run", "test", "dev"],
    "pages": ["pages"],
    "docs": ["docs"],
}


@cache
def lock(name: str) -> dict[str, tuple[str, int]]:
    """Package to version and number of hashes."""
    text = (ROOT / "locks" / f"{name}.txt").read_text(encoding="utf-8")
    entries = re.findall(r"^([a-z0-9-]+)==(\S+)((?:.*\\\n)*.*)", text, re.MULTILINE)
    return {package: (version, rest.count("--hash=sha256:")) for package, version, rest in entries}


def locked(environment: str) -> dict[str, str]:
    return {package: version for name in ENVIRONMENTS[environment] for package, (version, _) in lock(name).items()}


@pytest.mark.parametrize("name", sorted(ENVIRONMENTS))
def test_every_entry_of_a_lock_file_has_a_hash(name: str) -> None:
    assert lock(name)
    assert [package for package, (_, hashes) in lock(name).items() if not hashes] == []
    lines = (ROOT / "locks" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if "==" in line and line.split("==")[0] not in lock(name)] == []
    assert [line for line in lines if "://" in line or line.startswith("-")] == []  # no index, no address


@pytest.mark.parametrize(
    ("environment", "needs"),
    [
        ("run", PROJECT["dependencies"]),
        ("test", PROJECT["optional-dependencies"]["test"]),
        ("dev", PROJECT["optional-dependencies"]["dev"]),
        ("docs", PROJECT["optional-dependencies"]["docs"]),
        ("pages", ["markdown-it-py>=3", "numpy>=2", "pydantic>=2.7", "rich>=13"]),
    ],
)
def test_a_lock_file_has_a_fitting_version_of_every_dependency(environment: str, needs: list[str]) -> None:
    found = locked(environment)
    for need in map(Requirement, needs):
        if need.name not in OUTSIDE:
            assert need.specifier.contains(found[canonicalize_name(need.name)]), need


def test_a_lock_file_has_what_the_dependencies_need_in_turn() -> None:
    """As installed here: what a package requires on this machine is locked too."""
    missing = []
    found = locked("test")
    for package in found:
        for need in map(Requirement, requires(package) or ()):
            due = need.marker is None or need.marker.evaluate({"extra": ""})
            if due and canonicalize_name(need.name) not in found.keys() | OUTSIDE:
                missing.append(f"{package} requires {need}")
    assert missing == []


def test_lock_files_agree_with_each_other_and_with_the_constraints() -> None:
    everything: dict[str, str] = {}
    for environment in ENVIRONMENTS:
        for package, version in locked(environment).items():
            assert everything.setdefault(package, version) == version, package
    pins = dict(re.findall(r"^(\w+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(pins) == {"torch", "triton"}
    assert everything["triton"] == pins["triton"]
    assert "torch" not in everything


def test_the_lock_knows_what_the_pinned_torch_requires() -> None:
    (torch,) = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["uv"]["dependency-metadata"]
    assert f"torch=={torch['version']}\n" in (ROOT / "constraints.txt").read_text(encoding="utf-8")
    always = [Requirement(text) for text in requires("torch") or () if "extra" not in text]
    pure = {need.name for need in always if not need.name.startswith(("nvidia", "cuda", "triton"))}
    assert {Requirement(text).name for text in torch["requires-dist"]} == pure


@pytest.mark.parametrize("target", ["bench", "test", "lint", "test-cluster"])
def test_a_set_up_installs_by_hash_and_torch_by_version(target: str) -> None:
    plan = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", target, "VENV=not-there"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    installs = [line for line in plan.splitlines() if " install " in line]
    assert len(installs) >= 4
    for line in installs:
        hashed = "--require-hashes --no-deps" in line
        project = "--no-deps --no-build-isolation --editable ." in line
        assert hashed or project or "--constraint not-there/locks/constraints.txt" in line, line


def test_the_list_of_licences_names_every_locked_package() -> None:
    rows = runpy.run_path(str(ROOT / "tools" / "licences.py"))["rows"]()
    named = {canonicalize_name(name): licence for name, _, licence in rows}
    assert set(lock("pages")) <= set(named)
    assert "MIT" in named["rich"]
    assert [name for name in lock("pages") if not named[name]] == []
