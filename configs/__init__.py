"""Hydra's configuration files: suites (tables of tasks) and presets.

The schema is ``backbench.benchmarks.plan.settings``."""

from pathlib import Path

SUITES = Path(__file__).resolve().parent / "suite"  # folder of the suites that come with Backbench
PRESETS = SUITES.parent / "preset"  # folder of presets; a suite or a kind of environment may have a folder of its own
