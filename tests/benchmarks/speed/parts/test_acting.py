"""Environment steps are timed long enough."""

from __future__ import annotations

from backbench.benchmarks.speed.report import Report


def test_episodes_have_enough_steps_to_be_timed(report: Report) -> None:
    for one in report.acting:
        assert one.environments == (1 if one.acting == "alone" else 10)
        assert one.steps >= 50 * one.environments
        assert min(one.cpu_seconds) > 1e-3  # a tenth of a simulator's step each, at least
