"""Commands answer at once: nothing heavy is imported before it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("from backbench.benchmarks.cli import app", "torch hydra mlflow gymnasium minari pydantic numpy"),
        ("import backbench.agents.acting, backbench.backbones.check", "hydra mlflow gymnasium minari pydantic rich"),
        ("from backbench.backbones import BACKBONES; BACKBONES.names()", "torch numpy hydra mlflow"),
        (
            "from backbench.benchmarks.run.executors import attempt, single, local, worker",
            "hydra mlflow rich pandas matplotlib scipy typer yaml minari gymnasium triton",
        ),
    ],
)
def test_importing_a_room_loads_nothing_heavy(code: str, heavy: str) -> None:
    probe = f"import sys; {code}; print([name for name in {heavy.split()} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_and_lists_load_nothing_heavy() -> None:
    """``bench run --help`` and ``bench list suites`` load nothing heavy."""
    probe = (
        "import sys; sys.argv = ['bench', *sys.argv[1:]]; from backbench.benchmarks.cli.app import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'hydra', 'mlflow', 'gymnasium', 'minari'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    for words in (["run", "--help"], ["list", "suites"], ["data", "--help"]):
        done = subprocess.run([sys.executable, "-c", probe, *words], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout
