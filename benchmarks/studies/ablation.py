"""``bench study ablation``: which part of GLoMa is worth what."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from backbench.benchmarks.studies.effects import difference, said, smallest, verdict
from backbench.benchmarks.studies.study import Arm, Claim, Part, Picture, Reading, Records, Study, Table, pictured
from backbench.leaderboard.scores.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# One branch with twice the channels has as many parameters as both, at the same width of the stack.
BOTH = Arm("both", "gloma")
GLOBAL = Arm("global only, equal parameters", "gloma", ("backbone.branches=global", "backbone.expand=4"))
LOCAL = Arm("local only, equal parameters", "gloma", ("backbone.branches=local", "backbone.expand=4"))
ARMS = (
    BOTH, GLOBAL, LOCAL,
    Arm("global only", "gloma", ("backbone.branches=global",)),
    Arm("fusion gated", "gloma", ("backbone.fusion=gated",)),
    Arm("window 6", "gloma", ("backbone.window=6",)),
    Arm("windows 2 and 6", "gloma", ("backbone.windows=[2,6]",)),
    Arm("blocks", "gloma", ("backbone.local=blocks",)),
)  # fmt: skip
MORE = (
    Arm("local only", "gloma", ("backbone.branches=local",)),
    Arm("fusion concat", "gloma", ("backbone.fusion=concat",)),
    Arm("shared weights", "gloma", ("backbone.share_weights=true",)),
    Arm("window 4", "gloma", ("backbone.window=4",)),
    Arm("windows 2, 4 and 8", "gloma", ("backbone.windows=[2,4,8]",)),
    Arm("window 6 of the scan", "gloma", ("backbone.window=6", "backbone.window_of=scan")),
)
GYM = ("hopper-medium-replay", "walker2d-medium")
TASKS = {"d4rl": GYM, "d4rl-positions": GYM, "memory": ("repeat-4", "recall-8")}


def parts(preset: str) -> Sequence[Part]:
    """Eight arms; at ``paper`` fourteen, with a window for each of its three layers."""
    if preset == "smoke":
        return [Part("memory", ("repeat-4",), ARMS[:3], (0,))]
    seeds = (0, 1) if preset == "quick" else (0, 1, 2, 3, 4)
    arms = ARMS if preset == "quick" else (*ARMS, *MORE)
    return [Part(suite, tasks, arms, seeds) for suite, tasks in TASKS.items()]


def read(found: Records) -> Reading:
    """Differences to ``BOTH`` over tasks, and the verdict on the paper's claim."""
    arms = found.arms()
    scores = {arm: found.scores(arm) for arm in arms}
    tasks = list(dict.fromkeys(task for arm in arms for task in scores[arm]))
    against = {arm: difference(scores[arm], scores[BOTH]) for arm in arms if arm != BOTH} if BOTH in arms else {}
    rows = [
        [arm.name, *(_mean(scores[arm], task) for task in tasks), said(against[arm]) if arm in against else ""]
        for arm in arms
    ]
    table = Table("ablation", "Mean scores over seeds", ["arm", *tasks, "minus both, 95 %"], rows)
    gains = [difference(scores[BOTH], scores[arm]) for arm in (GLOBAL, LOCAL) if BOTH in scores and arm in scores]
    result = " ".join(
        f"Both minus {arm.name}: {said(gain)}." for arm, gain in zip((GLOBAL, LOCAL), gains, strict=False)
    )
    claim = Claim(
        "Global and local modelling together beat either alone (arXiv:2406.02013), here at equal parameters.",
        verdict(gains) if len(gains) == 2 else "open",
        result or "No records.",
        "More seeds narrow the intervals; other tasks, sizes and learning rates may order the arms otherwise.",
    )
    picture = Picture(
        "ablation",
        "Difference in mean score of each arm to both branches, with 95 % intervals",
        lambda figure: _forest(figure, against),
        (7.0, 1.2 + 0.42 * max(1, len(against))),
    )
    notes = [
        "The interval is over seeds, for these tasks. It says nothing about other tasks.",
        "No correction is made for the number of arms: of seven equal arms one looks different in a third of studies.",
        "All arms have the preset's learning rate, which was chosen for both branches.",
    ]
    return Reading([claim], [table], [picture] if against else [], notes)


def _mean(scores: dict[str, dict[int, float]], task: str) -> float | None:
    return fmean(scores[task].values()) if task in scores else None


def _forest(figure: Figure, against: dict[Arm, Estimate | None]) -> None:
    axes = pictured(figure, xlabel="score minus that of both branches")
    axes.axvline(0, color="black", linewidth=1)
    shown = [(arm, one) for arm, one in against.items() if one is not None]
    for place, (_, one) in enumerate(reversed(shown)):
        if one.interval is not None:
            axes.plot([one.interval.low, one.interval.high], [place, place], color="#0072b2", linewidth=2.5)
        axes.plot(one.value, place, "o", color="#0072b2", markersize=8)
    axes.set_yticks(range(len(shown)), [arm.name for arm, _ in reversed(shown)])
    axes.set_ylim(-0.6, len(shown) - 0.4)


ABLATION = Study(
    "ablation",
    "Is it global and local modelling together that helps, and which of GLoMa's choices matter?",
    parts,
    smallest,
    read,
)
