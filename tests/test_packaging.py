"""The package installs with a C++ compiler and without one, and works either way."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from backbench.backbones.kernels.native import loader

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = "backbench/backbones/kernels/native/_native.so"
COMPILER = next(filter(None, map(shutil.which, ("g++", "c++", "clang++"))), None)


def setuptools_version() -> int:
    try:
        return int(importlib.metadata.version("setuptools").partition(".")[0])
    except importlib.metadata.PackageNotFoundError:
        return 0


needs_setuptools = pytest.mark.skipif(setuptools_version() < 77, reason="setuptools 77 is not installed here")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the package is built from."""
    copy = tmp_path / "tree"
    ignored = shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", copy / "src", ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "constraints.txt"):
        shutil.copy(ROOT / name, copy)
    return copy


def python(*words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def build(what: str, folder: Path, **environment: str) -> tuple[Path, str]:
    """What an installer asks of the package, ``wheel`` or ``sdist``: the file, and all that was printed."""
    code = f"from setuptools import build_meta; print(build_meta.build_{what}('dist'))"
    done = python("-c", code, folder=folder, **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "dist" / done.stdout.splitlines()[-1], done.stdout + done.stderr


def compiler(folder: Path, name: str, refuses: str = "no-such-flag") -> Path:
    """A compiler that notes its calls beside it, optimises nothing (it is quicker) and does not know one flag."""
    folder.mkdir(exist_ok=True)
    script = folder / name
    script.write_text(
        f'#!/bin/sh\nPATH=/usr/local/bin:/usr/bin:/bin\necho "$@" >> {folder}/calls\n'
        f'case " $* " in *" {refuses} "*) exit 1;; esac\nexec {COMPILER} "$@" -O0\n'
    )
    script.chmod(0o755)
    return script


def instruction_sets(library: Path) -> list[str]:
    code = "from backbench.backbones.kernels.native import loader; print(*loader.instruction_sets())"
    return python("-c", code, folder=library.parent, BACKBENCH_NATIVE=str(library)).stdout.split()


@needs_setuptools
def test_without_a_compiler_the_wheel_has_no_library(tree: Path, tmp_path: Path) -> None:
    """One warning, and a wheel without the library, even where an older build left one."""
    (tree / "src" / LIBRARY).write_text("of another build")
    nowhere = str(tree / "no-such-compiler")
    with tarfile.open(build("sdist", tree, CC=nowhere, CXX=nowhere)[0]) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    wheel, said = build("wheel", unpacked, CC=nowhere, CXX=nowhere)
    assert said.count("the compiled CPU kernels were not built") == 1
    assert "no CPU kernels for" not in said
    names = zipfile.ZipFile(wheel).namelist()
    assert LIBRARY not in names
    assert "backbench/backbones/kernels/native/loader.py" in names


@needs_setuptools
def test_neither_library_nor_board_in_the_source_distribution(tree: Path) -> None:
    (tree / "src" / LIBRARY).write_text("of this machine")
    board = tree / "src" / "backbench" / "leaderboard"
    assert (board / "published" / "records" / "SHA256SUMS").exists()
    with tarfile.open(build("sdist", tree)[0]) as archive:
        names = archive.getnames()
    assert not any(name.endswith(".so") for name in names)
    assert not any("/leaderboard/published" in name for name in names)
    assert any(name.endswith("/leaderboard/scores/reported_scores.csv") for name in names)


@needs_setuptools
@needs_compiler
def test_the_source_distribution_builds_a_wheel_with_the_library(tree: Path, tmp_path: Path) -> None:
    """With the compiler that CXX names. The wheel is for a platform, and for every version of Python."""
    sdist, _ = build("sdist", tree)
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
        archive.extractall(tmp_path / "unpacked", filter="data")
    sources = {path.name for path in loader.FOLDER.iterdir() if path.suffix in (".h", ".cpp", ".py")}
    assert {Path(name).name for name in names if "/kernels/native/" in name} == sources

    (unpacked,) = (tmp_path / "unpacked").iterdir()
    wheel, _ = build("wheel", unpacked, CXX=str(compiler(tmp_path / "compiler", "our-c++")))
    assert re.fullmatch(r"backbench-.*-py3-none-linux_\w+\.whl", wheel.name)
    calls = (tmp_path / "compiler" / "calls").read_text()
    built = re.findall(r"BACKBENCH_SET=(\w+)", calls)  # this processor may support fewer
    assert len(built) == len(set(built)) == calls.count("kernels.cpp")
    assert loader.missing() or set(built) >= set(loader.instruction_sets())
    assert calls.count("library.cpp") == 1
    assert calls.count("-shared") == 1
    with zipfile.ZipFile(wheel) as archive:
        archive.extract(LIBRARY, tmp_path)
    assert "generic" in instruction_sets(tmp_path / LIBRARY)


@needs_setuptools
@needs_compiler
def test_an_old_compiler_builds_the_sets_that_it_knows(tree: Path, tmp_path: Path) -> None:
    """Found as c++ where there is no g++; an instruction set that it does not know is left out."""
    compiler(tmp_path / "bin", "c++", refuses="-mavx512f")
    done = python("setup.py", "-q", "build_ext", folder=tree, PATH=str(tmp_path / "bin"))
    (library,) = tree.glob("build/**/_native.so")
    sets = instruction_sets(library)
    assert "generic" in sets
    assert "avx512" not in sets
    if "-mavx512f" in (tmp_path / "bin" / "calls").read_text():
        assert done.stderr.count("no CPU kernels for avx512") == 1


def missing(wanted: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Why there are no compiled kernels when BACKBENCH_NATIVE is ``wanted``."""
    monkeypatch.setenv("BACKBENCH_NATIVE", wanted)
    library, reason = loader._load.__wrapped__()
    assert library is None
    assert "\n" not in reason
    return str(reason)


def test_a_library_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reason, never a crash."""
    text = tmp_path / "text.so"
    text.write_text("not a library")
    assert "cannot be loaded" in missing(str(text), monkeypatch)
    assert "cannot be loaded" in missing(str(tmp_path), monkeypatch)
    assert "cannot be loaded" in missing(str(tmp_path / "nowhere.so"), monkeypatch)
    assert "cannot be loaded" in missing("libm.so.6", monkeypatch)  # a library of something else
    assert "switched off" in missing("off", monkeypatch)


@needs_compiler
@pytest.mark.parametrize(("interface", "reason"), [(99, "another version"), (loader.INTERFACE, "cannot be loaded")])
def test_a_library_of_another_version(
    interface: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, other = tmp_path / "other.cpp", tmp_path / "other.so"
    source.write_text(f'extern "C" long backbench_interface() {{ return {interface}; }}')
    subprocess.run([str(COMPILER), "-shared", "-fPIC", source, "-o", other], check=True)
    assert reason in missing(str(other), monkeypatch)


TRAIN = """
import torch
from backbench.backbones.build import build
from backbench.backbones.contract import Spec
from backbench.backbones.kernels import chosen, ran

assert chosen("selective_scan") == "torch", chosen("selective_scan")
for name in ("mamba", "gloma", "rglru", "s5"):
    model = build(name, {}, Spec(d_model=8, n_layers=1, max_length=30))
    before = [p.clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.randn(2, 12, 8)).square().mean().backward()
    optimizer.step()
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters()))
assert ran()["selective_scan"] == "torch", ran()
print("trained")
"""


def test_switched_off_everything_works(tmp_path: Path) -> None:
    done = python("-c", TRAIN, folder=tmp_path, BACKBENCH_NATIVE="off")
    assert done.stdout.strip() == "trained", done.stderr[-2000:]
