"""What columns and plots are called, which way is better, and the sentences beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backbench.leaderboard.statistics import COVERAGE

PURPOSE = (
    "Which sequence backbone makes the best decision maker, and at what cost? Interchangeable backbones are trained as "
    "return-conditioned policies on the same offline trajectories and played in the same environments; everything but "
    "the backbone is shared."
)
VERIFIED = "A second machine ran the same cells from their records and came to the same scores."
SELF_REPORTED = "One machine's word: nobody has repeated all of its cells elsewhere yet."
EPISODES = (
    "One seed only: an interval marked e is over the evaluation episodes of that seed and says nothing about the noise "
    "of training, which is usually larger. Rank nothing by it."
)


def coverage() -> str:
    """What an interval from few seeds is worth."""
    held = ", ".join(f"{share:.0%} of the time with {seeds}" for seeds, share in COVERAGE.items())
    return (
        "Intervals are 95 % bootstrap intervals over seeds, drawn within each task. With few seeds they are too "
        f"narrow: in simulation they held the true value {held} seeds. Intervals that overlap rank nothing."
    )


def protocol(section: Mapping[str, Any]) -> str:
    """How every row of a section was evaluated."""
    return (
        f"{section['acting']} acting, {section['sampling']}, {section['episodes']} episodes per target, evaluation "
        f"seed {section['eval_seed']}"
    )


@dataclass(frozen=True)
class Measure:
    """A column of numbers that is also an axis."""

    key: str
    title: str
    unit: str
    higher: bool = False
    """Whether more is better."""

    @property
    def axis(self) -> str:
        return f"{self.title}, {self.unit}" if self.unit else self.title


AGGREGATES = (
    Measure("iqm", "IQM", "points", higher=True),
    Measure("mean", "Mean", "points", higher=True),
    Measure("median", "Median", "points", higher=True),
    Measure("optimality_gap", "Optimality gap", "lower is better"),
)
COSTS = (
    Measure("parameters", "Parameters", ""),
    Measure("parameters_backbone", "Backbone parameters", ""),
    Measure("flops_per_token", "FLOPs per token", ""),
    Measure("train_tokens_per_s", "Training speed", "tokens/s", higher=True),
    Measure("decision_p50_ms", "Decision p50", "ms"),
    Measure("decision_p95_ms", "Decision p95", "ms"),
    Measure("peak_memory_mb", "Peak memory", "MB"),
    Measure("wall_seconds", "Wall time", "s"),
)
