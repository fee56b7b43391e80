"""Hydra's configuration files: suites (tables of tasks) and presets.

The schema is ``backbench.benchmarks.plan.settings``."""

from pathlib import Path

SUITES = Path(__file__).resolve().parent / "suite"  # folder of the suites that come with Backbench
