from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
for name in ("record", "board", "render", "tables", "published", "page", "submit", "check", "generate", "trust"):
    __import__(f"backbench.leaderboard.{name}")
heavy = ("torch", "mlflow", "hydra", "gymnasium", "backbench.benchmarks", "backbench.agents", "backbench.backbones")
print([name for name in heavy if name in sys.modules])
"""


def test_the_leaderboard_stands_alone() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
