"""Importing this makes the environments of suite memory known to Gymnasium.

    import gymnasium
    import backbench.environments

    env = gymnasium.make("backbench/TMaze-v0", length=24)

``gymnasium.make("backbench.environments:backbench/TMaze-v0", length=24)`` does both. docs/memory.md describes each one.
"""

from backbench.benchmarks.environments.memory import register

register()
