"""Gymnasium makes the environments of suite memory in a program that imports them."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "code",
    [
        "import backbench.environments; env = gymnasium.make('backbench/TMaze-v0', length=8)",
        "env = gymnasium.make('backbench.environments:backbench/TMaze-v0', length=8)",
    ],
)
def test_the_environments_are_known_after_an_import(code: str) -> None:
    played = f"import gymnasium, sys; {code}; env.reset(seed=0); assert not env.step(0)[2]"
    played += "; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", played], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
