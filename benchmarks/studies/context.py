"""``bench study context``: what a longer context is worth, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from backbench.benchmarks.studies.effects import difference, said, smallest, verdict
from backbench.benchmarks.studies.report import COLOURS, LINES, MARKERS
from backbench.benchmarks.studies.study import Arm, Claim, Part, Picture, Reading, Records, Study, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GYM, MEMORY = "hopper-medium-replay", "repeat-16"
LENGTHS = {"smoke": (4,), "quick": (1, 2, 5, 10, 20, 50), "paper": (1, 2, 5, 10, 20, 50)}
BACKBONES = ("transformer", "mamba")
ACTING = ("window", "recurrent")
HELD_OUT = {"d4rl": 5, "memory": 150}  # episodes


def arm(backbone: str, context: int, acting: str) -> Arm:
    return Arm(f"{backbone}, K={context}, {acting}", backbone, (f"model.context={context}", f"eval.acting={acting}"))


def parts(preset: str) -> Sequence[Part]:
    """Each backbone at each K, acting on the last K steps (``window``) or with a state (``recurrent``)."""
    small = preset == "smoke"
    seeds = {"smoke": (0,), "quick": (0, 1)}.get(preset, (0, 1, 2))
    arms = tuple(
        arm(backbone, context, acting)
        for backbone in BACKBONES[small:]
        for context in LENGTHS.get(preset, LENGTHS["paper"])
        for acting in ACTING
    )
    made = [Part("memory", ("repeat-4" if small else MEMORY,), arms, seeds, ("data.windows=uniform", _held("memory")))]
    return made if small else [Part("d4rl", (GYM,), arms, seeds, (_held("d4rl"),)), *made]


def _held(suite: str) -> str:
    return f"data.held_out={HELD_OUT[suite]}"


def read(found: Records) -> Reading:
    """Scores, held-out losses and speeds over K."""
    rows = []
    for one in found.arms():
        scores, records = found.scores(one), found.by_arm[one]
        for task, seeds in scores.items():
            mine = [record for record in records if f"{record.identity.suite}/{record.identity.task}" == task]
            costs = [record.cost for record in mine if record.cost is not None]
            losses = [r.scores.held_out.loss for r in mine if r.scores is not None and r.scores.held_out is not None]
            rows.append(
                [
                    one.name, task, fmean(seeds.values()), fmean(losses) if losses else None,
                    median(cost.train_tokens_per_s for cost in costs), median(cost.decision.p50_ms for cost in costs),
                ]
            )  # fmt: skip
    heads = ["arm", "task", "score", "held-out loss", "training, tokens/s", "decision p50, ms"]
    table = Table("context", "Over K", heads, rows, digits=2)
    claims = [_claim(found, backbone) for backbone in BACKBONES]
    picture = Picture(
        "context",
        "Score against the number of steps in a window, by task, backbone and protocol of acting",
        lambda figure: _draw(figure, found),
        (8.0, 4.2),
    )
    notes = [
        "Acting window reads the last K steps. Acting recurrent carries a state from the first step on, so an episode "
        "of more than K steps is longer than any window of training.",
        f"{MEMORY} needs 16 steps: a window of 16 or fewer cannot solve it. A state could hold more than it was "
        "trained to.",
        "Every K has the preset's learning rate and as many updates of as many windows: longer ones see more tokens.",
        "Held-out loss is the mean over steps of windows that tile the held-out episodes, so it falls with K for that "
        "reason alone: the first steps of a window see little.",
    ]
    return Reading([one for one in claims if one is not None], [table], [picture], notes)


def _claim(found: Records, backbone: str) -> Claim | None:
    """Whether the longest context scores more than that of one step, acting on windows."""
    lengths = sorted({record.identity.model.context for records in found.by_arm.values() for record in records})
    ends = [arm(backbone, lengths[index], "window") for index in (-1, 0)] if lengths else []
    if len(lengths) < 2 or not all(one in found.arms() for one in ends):
        return None
    gain = difference(found.scores(ends[0]), found.scores(ends[1]))
    return Claim(
        f"{backbone}: a window of {lengths[-1]} steps scores more than one of {lengths[0]}.",
        verdict([gain]),
        f"{said(gain)}.",
        "Other tasks, and a learning rate for each K, may change this.",
    )


def _draw(figure: Figure, found: Records) -> None:
    tasks = list(dict.fromkeys(task for one in found.arms() for task in found.scores(one)))
    for column, task in enumerate(tasks):
        axes = figure.add_subplot(1, len(tasks), column + 1)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set(title=task, xlabel="K, steps of a window", ylabel="score" if column == 0 else "")
        for index, backbone in enumerate(BACKBONES):
            for line, acting in enumerate(ACTING):
                dots = [
                    (record.identity.model.context, record.scores.last.targets[0].normalised_mean)
                    for one in found.arms()
                    if one.backbone == backbone and f"eval.acting={acting}" in one.overrides
                    for record in found.by_arm[one]
                    if record.scores is not None and f"{record.identity.suite}/{record.identity.task}" == task
                ]
                lengths = sorted({length for length, _ in dots})
                means = [fmean(score for length, score in dots if length == one) for one in lengths]
                style: dict[str, Any] = {"linestyle": LINES[line], "color": COLOURS[index]}
                axes.plot(lengths, means, label=f"{backbone}, {acting}", marker=MARKERS[2 * index + line], **style)
        tried = sorted({record.identity.model.context for records in found.by_arm.values() for record in records})
        axes.set_xscale("log")
        axes.set_xticks(tried, [str(length) for length in tried])
        axes.minorticks_off()
        if column == 0:
            axes.legend(frameon=False)


CONTEXT = Study(
    "context",
    "What is a longer context worth, by score, held-out loss and speed, and does a carried state replace it?",
    parts,
    smallest,
    read,
)
