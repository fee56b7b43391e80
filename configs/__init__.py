"""Hydra's configuration files: suites (tables of tasks) and presets.

The schema is ``backbench.benchmarks.plan.settings``."""
