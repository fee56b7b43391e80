from __future__ import annotations

import subprocess
import sys

CODE = """
import importlib, pkgutil, sys
import backbench.leaderboard as leaderboard
for module in pkgutil.walk_packages(leaderboard.__path__, "backbench.leaderboard."):
    importlib.import_module(module.name)
    print(module.name, file=sys.stderr)
heavy = ("torch", "mlflow", "hydra", "gymnasium", "backbench.benchmarks", "backbench.agents", "backbench.backbones")
print([name for name in heavy if name in sys.modules])
"""


def test_every_module_of_the_leaderboard_imports_without_torch() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert "backbench.leaderboard.views.page.table" in done.stderr.split()
