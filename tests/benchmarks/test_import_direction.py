"""Imports go one way: backbones <- agents <- benchmarks; the leaderboard stands alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import backbench

PACKAGE = Path(backbench.__file__).parent
PARTS = {"backbones", "agents", "benchmarks", "leaderboard", "configs"}
ALLOWED = {
    "backbones": {"backbones"},
    "agents": {"agents", "backbones"},
    "benchmarks": PARTS,
    "leaderboard": {"leaderboard"},
    "configs": set[str](),
}
OUTSIDE = {  # besides the standard library
    "backbones": {"torch", "numpy", "triton", "mamba_ssm", "causal_conv1d", "flash_attn", "xformers"},
    "agents": {"torch", "numpy"},
    "leaderboard": {"numpy", "pydantic", "rich"},
}


def imports(path: Path) -> list[tuple[int, str]]:
    """Every module that a file imports, anywhere in it, ``from package import module`` as the latter."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("backbench."):
            found.append((node.lineno, node.value.replace(":", ".")))  # "module:Class" is imported later
    return found


@pytest.mark.parametrize("part", sorted(PARTS))
def test_direction(part: str) -> None:
    files = sorted((PACKAGE / part).rglob("*.py"))
    assert files
    wrong = []
    for path in files:
        for line, name in imports(path):
            words = name.split(".")
            if words[0] == "backbench" and len(words) > 1 and words[1] in PARTS and words[1] not in ALLOWED[part]:
                wrong.append(f"{path.relative_to(PACKAGE)}:{line} imports {name}")
            known = words[0] == "backbench" or words[0] in sys.stdlib_module_names
            if part in OUTSIDE and not known and words[0] not in OUTSIDE[part]:
                wrong.append(f"{path.relative_to(PACKAGE)}:{line} imports {name}")
    assert wrong == []


def test_the_check_finds_what_is_planted(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("def f():\n    from backbench.benchmarks import cell\nX = 'backbench.agents.agent:Agent'\n")
    assert sorted(imports(path)) == [(2, "backbench.benchmarks.cell"), (3, "backbench.agents.agent.Agent")]


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("from backbench.benchmarks import cli", "torch hydra mlflow gymnasium minari pydantic numpy"),
        ("import backbench.agents.acting, backbench.backbones.check", "hydra mlflow gymnasium minari pydantic rich"),
        ("from backbench.backbones import BACKBONES; BACKBONES.names()", "torch numpy hydra mlflow"),
        ("import backbench.benchmarks.cell", "hydra mlflow"),
    ],
)
def test_what_is_loaded(code: str, heavy: str) -> None:
    probe = f"import sys; {code}; print([name for name in {heavy.split()} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_is_light() -> None:
    """``bench run --help`` and ``bench list`` load nothing heavy."""
    probe = (
        "import sys; sys.argv = ['bench', *sys.argv[1:]]; from backbench.benchmarks.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'hydra', 'mlflow', 'gymnasium', 'minari'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    for words in (["run", "--help"], ["list", "backbones"], ["data", "--help"]):
        done = subprocess.run([sys.executable, "-c", probe, *words], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout
