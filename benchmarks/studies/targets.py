"""``bench study targets``: whether a policy reaches the return that it is asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.plan.suites import resolve
from backbench.benchmarks.studies.effects import said, verdict
from backbench.benchmarks.studies.report import COLOURS, LINES, MARKERS
from backbench.benchmarks.studies.study import SUPPORTED, Arm, Claim, Part, Picture, Reading, Records, Study, Table
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.scores.statistics import Estimate, Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARES = (0.25, 0.5, 0.75, 1.0, 1.25)  # of the suite's own target return
TASKS = ("hopper-medium-replay", "walker2d-medium-replay", "halfcheetah-medium-expert")
BACKBONES = ("transformer", "mamba", "gloma", "mlp")
EPISODES = 10  # of preset quick, for each target
RESAMPLES = 1000


def parts(preset: str) -> Sequence[Part]:
    """A part for each task, as each has targets of its own."""
    tasks, backbones = (TASKS[:1], BACKBONES[1:2]) if preset == "smoke" else (TASKS, BACKBONES)
    seeds = {"smoke": (0,), "quick": (0, 1)}.get(preset, (0, 1, 2, 3, 4))
    arms = tuple(Arm(name, name) for name in backbones)
    return [Part("d4rl", (task,), arms, seeds, (f"eval.targets=[{_targets(task)}]",)) for task in tasks]


def _targets(task: str) -> str:
    headline = resolve("d4rl", task, "embedded").targets[0]
    return ",".join(f"{share * headline:g}" for share in SHARES)


def smallest(parts: Sequence[Part]) -> str:
    """After Fisher's transformation, whose standard error is 1 / sqrt(n - 3)."""
    runs = len(parts[0].seeds) * EPISODES * len(SHARES)
    reach = math.tanh((NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)) / math.sqrt(runs - 3))
    return (
        f"Smallest effect: a true rank correlation of {reach:.2f} on one task is found at 95 % in 80% of such studies, "
        f"if its {runs} episodes are independent. Episodes of one seed are not quite, so it takes somewhat more."
    )


def read(found: Records) -> Reading:
    """Rank correlation of asked and achieved return, for each arm and task."""
    arms, rows, claims = found.arms(), [], []
    tasks = list(dict.fromkeys(record.identity.task for arm in arms for record in found.by_arm[arm]))
    for arm in arms:
        each = [conditioning(_played(found, arm, task)) for task in tasks if _played(found, arm, task)]
        rows.append([arm.name, *(_shown(one) for one in each)])
        result = verdict(each)
        claims.append(
            Claim(
                f"{arm.name} earns more when more is asked for.",
                result,
                f"Rank correlations, 95 %: {', '.join(map(_shown, each))} on {', '.join(tasks)}.",
                "" if result == SUPPORTED else "More training or data of more mixed quality could change this.",
            )
        )
    table = Table("correlation", "Rank correlation of asked and achieved return", ["backbone", *tasks], rows)
    means = [
        [f"{arm.name}, {task}", *map(float, np.mean([got.mean(axis=1) for _, got in map(returns, played)], axis=0))]
        for arm in arms
        for task in tasks
        if (played := _played(found, arm, task))
    ]
    heads = ["backbone, task", *(f"{share:g} x the suite's target" for share in SHARES)]
    achieved = Table("achieved", "Mean return for each return asked for", heads, means, digits=0)
    picture = Picture(
        "targets",
        "Mean return against the return asked for, by task and backbone. The shaded range is that of the data",
        lambda figure: _draw(figure, found, tasks),
        (3.6 * max(1, len(tasks)), 4.2),
    )
    notes = [
        "Correlations are Spearman's, of episodes. The interval resamples seeds, and starts jointly for all targets.",
        "A backbone that ignores the target has a correlation of 0. One that reaches every target exactly has 1.",
        "The data hold what was asked for only within their range. Beyond it a policy can but extrapolate.",
    ]
    return Reading(claims, [table, achieved], [picture], notes)


def _played(found: Records, arm: Arm, task: str) -> list[Record]:
    return [one for one in found.by_arm[arm] if one.identity.task == task and one.scores is not None]


def returns(record: Record) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Targets (targets,), ascending, and the returns of their episodes (targets, episodes)."""
    assert record.scores is not None
    played = sorted(record.scores.last.targets, key=lambda one: one.target)
    return np.array([one.target for one in played]), np.array([one.returns for one in played])


def conditioning(records: Sequence[Record]) -> Estimate:
    """Mean over seeds of the rank correlation of target and return, with its 95 % bootstrap interval."""
    each = [returns(record) for record in records]
    value = float(np.mean([spearman(np.repeat(asked, got.shape[1]), got.ravel()) for asked, got in each]))
    rng, means = np.random.default_rng(0), []
    starts = each[0][1].shape[1]
    for _ in range(RESAMPLES):
        columns = rng.integers(starts, size=starts)
        drawn = [each[index] for index in rng.integers(len(each), size=len(each))]
        means.append(np.mean([spearman(np.repeat(asked, starts), got[:, columns].ravel()) for asked, got in drawn]))
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(value, Interval(float(low), float(high), "seeds and starts", len(records)))


def spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Rank correlation of (n,) and (n,), with mean ranks for ties; 0 where one of them is constant."""
    ranks = []
    for values in (x, y):
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        ends = counts.cumsum()
        ranks.append((ends - (counts - 1) / 2)[inverse])
    spreads = [rank.std() for rank in ranks]
    if min(spreads) == 0:
        return 0.0
    centred = [rank - rank.mean() for rank in ranks]
    return float((centred[0] * centred[1]).mean() / (spreads[0] * spreads[1]))


def _shown(one: Estimate) -> str:
    return said(one, digits=2)


def _draw(figure: Figure, found: Records, tasks: Sequence[str]) -> None:
    for column, task in enumerate(tasks):
        axes = figure.add_subplot(1, len(tasks), column + 1)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set(title=task, xlabel="return asked for", ylabel="mean return" if column == 0 else "")
        for index, arm in enumerate(found.arms()):
            each = [returns(record) for record in _played(found, arm, task)]
            if not each:
                continue
            asked, means = each[0][0], np.mean([got.mean(axis=1) for _, got in each], axis=0)
            data = _played(found, arm, task)[0].identity.data
            if index == 0:
                axes.plot(asked, asked, color="black", linewidth=1, linestyle=":")
                if data is not None:
                    axes.axvspan(data.return_min, data.return_max, color="#eeeeee", zorder=0)
            style: dict[str, Any] = {
                "marker": MARKERS[index % 8],
                "linestyle": LINES[index % 4],
                "color": COLOURS[index % 8],
            }
            axes.plot(asked, means, label=arm.name, **style)
        if column == 0:
            axes.legend(frameon=False)


TARGETS = Study(
    "targets", "Does asking for a higher return give a higher one, and for which backbone?", parts, smallest, read
)
