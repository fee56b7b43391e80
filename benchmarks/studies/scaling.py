"""``bench study scaling``: what more data and a larger model are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from backbench.benchmarks.data import store
from backbench.benchmarks.data.sources.embedded_memory import ideal_losses
from backbench.benchmarks.data.split import split
from backbench.benchmarks.plan.from_json import cell_of
from backbench.benchmarks.studies import effects
from backbench.benchmarks.studies.effects import difference, said, verdict
from backbench.benchmarks.studies.gains import gains
from backbench.benchmarks.studies.grid import Grid
from backbench.benchmarks.studies.law import Law, fit_law
from backbench.benchmarks.studies.report import COLOURS, LINES, MARKERS
from backbench.benchmarks.studies.study import OPEN, Arm, Claim, Part, Picture, Reading, Records, Study, Table
from backbench.errors import UserError
from backbench.leaderboard.record.schema import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BACKBONES = ("transformer", "mamba")
SIZES = ((16, 1), (32, 1), (48, 2), (64, 2))  # width and layers: non-embedding parameters over 32 times


@dataclass(frozen=True)
class Task:
    """Amounts of unique episodes of a task, and how many are held out."""

    suite: str
    name: str
    amounts: tuple[int, ...]
    held_out: int


TASKS = (
    Task("memory", "copy-12", (40, 100, 250, 600, 1350), 150),
    Task("d4rl", "hopper-medium-replay", (30, 70, 150, 300, 570), 60),
)
SMOKE = Task("memory", "repeat-4", (20, 50, 100), 20)
# The paper's claim is about Atari. Twice the layers are twice the non-embedding parameters.
GAME, HELD_OUT = "breakout", 16
ONCE = ("data.episodes=50", "model.n_layers=2")
ATARI = {
    "once": ONCE,
    "twice the data": ("data.episodes=100", ONCE[1]),
    "twice the model": (ONCE[0], "model.n_layers=4"),
}


def arm(backbone: str, size: tuple[int, int], episodes: int) -> Arm:
    width, layers = size
    name = f"{backbone}, {width} x {layers}, {episodes} episodes"
    return Arm(name, backbone, (f"model.d_model={width}", f"model.n_layers={layers}", f"data.episodes={episodes}"))


def parts(preset: str) -> Sequence[Part]:
    """Sizes x amounts for each backbone and task, and Atari with data and model once and twice."""
    small = preset == "smoke"
    tasks, backbones, sizes = ([SMOKE], BACKBONES[1:], SIZES[:3]) if small else ([*TASKS], BACKBONES, SIZES)
    seeds: tuple[int, ...] = (0, 1) if preset in ("smoke", "quick") else (0, 1, 2, 3, 4)
    made = [
        Part(
            task.suite, (task.name,),
            tuple(arm(one, size, amount) for one in backbones for size in sizes for amount in task.amounts),
            seeds, (f"data.held_out={task.held_out}",),
        )
        for task in tasks
    ]  # fmt: skip
    if small:
        return made
    arms = tuple(Arm(f"{GAME}, {one}, {name}", one, words) for one in backbones for name, words in ATARI.items())
    return [*made, Part("atari", (GAME,), arms, (0, 1, 2), (f"data.held_out={HELD_OUT}",))]


def smallest(parts: Sequence[Part]) -> str:
    """Of the law's prediction there is none: it is said of scores alone."""
    return effects.smallest(parts[-1:])


def surface(found: Records, backbone: str, task: str, what: str) -> Grid | None:
    """Held-out losses or scores (``what``: loss, score) of a backbone on a task; None where the grid has a hole.

    Sizes are non-embedding parameters.
    """
    cells: dict[tuple[int, int, int], float] = {}
    for record in every(found, backbone, task):
        assert record.scores is not None
        unseen, cell = record.scores.held_out, cell_of(record.provenance.config)
        if unseen is not None and record.cost is not None:
            value = unseen.loss if what == "loss" else record.scores.last.targets[0].normalised_mean
            key = record.cost.parameters_backbone, cell.data.episodes, record.identity.seed
            cells[key] = value
    sizes, amounts, seeds = (sorted({key[axis] for key in cells}) for axis in range(3))
    if not cells or len(cells) < len(sizes) * len(amounts) * len(seeds):
        return None
    values = [[[cells[size, amount, seed] for amount in amounts] for size in sizes] for seed in seeds]
    return Grid.of(sizes, amounts, values)


def every(found: Records, backbone: str, task: str) -> list[Record]:
    """The finished records of a backbone on ``suite/task``."""
    suite, _, name = task.partition("/")
    return [
        record
        for one in found.arms()
        if one.backbone == backbone
        for record in found.by_arm[one]
        if (record.identity.suite, record.identity.task) == (suite, name) and record.scores is not None
    ]


def ideal(found: Records, task: str) -> float | None:
    """The ideal predictor's loss on the held-out episodes; None where nobody knows it, or without the data."""
    records = [record for backbone in BACKBONES for record in every(found, backbone, task)]
    data = records[0].identity.data if records else None
    if data is None or not task.startswith("memory/") or not store.exists(data.id):
        return None
    cell, read = cell_of(records[0].provenance.config), store.read(data.id)
    return ideal_losses(read, split(read, cell.data.held_out, 0, 0)[1])[cell.model.tokens]


def read(found: Records) -> Reading:
    """Laws and gains by backbone and task, and the paper's claim about Atari."""
    tasks = list(
        dict.fromkeys(task for one in found.arms() for task in found.scores(one) if not task.startswith("atari"))
    )
    known = {task: ideal(found, task) for task in tasks}
    laws, changes, surfaces = [], [], {}
    for task in tasks:
        for backbone in BACKBONES:
            if (losses := surface(found, backbone, task, "loss")) is None:
                continue
            surfaces[task, backbone] = losses
            laws.append([f"{backbone}, {task}", *_law(losses, known[task])])
            changes.append([f"{backbone}, {task}", *_gains(losses)])
    heads = ["backbone, task", "a (model)", "b (data)", "E", "largest cell, measured", "predicted", "verdict"]
    tables = [Table("law", "Fits of L - E = A N^-a + B D^-b to held-out losses", heads, laws)]
    heads = ["backbone, task", "twice the data", "twice the model"]
    tables.append(Table("gains", "Change of the held-out loss from a doubling, %", heads, changes))
    tables += _atari(found)
    claim = _claim(found)
    picture = Picture(
        "scaling",
        "Held-out loss against unique episodes, a line for each size of the model, by task and backbone",
        lambda figure: _draw(figure, surfaces, known),
        (4.0 * max(1, len(surfaces)), 4.2),
    )
    notes = [
        "N counts the parameters of the backbone without embeddings and head, D unique episodes.",
        "Where E is known it is the loss of the ideal predictor on the held-out episodes. Else it is fitted.",
        "No law means that an exponent may be 0, or that the fit without the largest cells does not predict them.",
        "Every cell has the preset's learning rate and as many updates. Larger models often want a lower rate, and "
        "more data more updates. Both make the gains here lower bounds.",
        "Episodes are unique, not fresh: small amounts are seen many times.",
    ]
    return Reading([claim] if claim else [], tables, [picture] if surfaces else [], notes)


def _law(losses: Grid, known: float | None) -> list[object]:
    try:
        law = fit_law(losses, known)
    except UserError as error:
        return [*[None] * 5, str(error)]
    return [
        *(_within(law, name, digits=2) for name in "ab"),
        f"{known:.3f}, known" if known is not None else _within(law, "E", digits=3),
        f"{law.prediction.measured:.3f}",
        f"{law.prediction.predicted:.3f} ({law.prediction.low:.3f}, {law.prediction.high:.3f})",
        law.verdict if not law.doubts else f"{law.verdict}: {'; '.join(law.doubts)}",
    ]


def _within(law: Law, name: str, digits: int) -> str:
    low, high = law.intervals[name]
    return f"{getattr(law.fit, name):.{digits}f} ({low:.{digits}f}, {high:.{digits}f})"


def _gains(losses: Grid) -> list[object]:
    try:
        found = gains(losses)
    except UserError as error:
        return [str(error), None]
    each = (found[name] for name in ("data", "model"))
    return [f"{100 * one.change:+.1f} ({100 * one.low:+.1f}, {100 * one.high:+.1f})" for one in each]


def _of_atari(found: Records) -> dict[tuple[str, str], dict[str, dict[int, float]]]:
    """(backbone, name in ``ATARI``) -> scores."""
    named = {(one.backbone, one.overrides): found.scores(one) for one in found.arms()}
    pairs = ((backbone, name) for backbone in BACKBONES for name in ATARI)
    return {(b, name): named[b, ATARI[name]] for b, name in pairs if (b, ATARI[name]) in named}


def _atari(found: Records) -> list[Table]:
    scores = _of_atari(found)
    if not scores:
        return []
    rows = []
    for backbone in BACKBONES:
        if (base := scores.get((backbone, "once"))) is None:
            continue
        own = float(np.mean([value for seeds in base.values() for value in seeds.values()]))
        row: list[object] = [backbone, own]
        for name in list(ATARI)[1:]:
            one = difference(scores[backbone, name], base) if (backbone, name) in scores else None
            row += [said(one), None if one is None or own <= 0 else f"{100 * one.value / own:+.1f} %"]
        rows.append(row)
    heads = ["backbone", "score, once", "twice the data, points", "relative", "twice the model, points", "relative"]
    return [
        Table(
            "atari",
            f"{GAME}: data and model once and twice (the paper: up to +33.7 % from twice the data)",
            heads,
            rows,
        )
    ]


def _claim(found: Records) -> Claim | None:
    """That twice the data help more than twice the model on Atari."""
    scores = _of_atari(found)
    pairs = [
        difference(scores[backbone, "twice the data"], scores[backbone, "twice the model"])
        for backbone in BACKBONES
        if (backbone, "twice the data") in scores and (backbone, "twice the model") in scores
    ]
    if not pairs:
        return None
    return Claim(
        "On Atari more data help where larger models do not (arXiv:2406.02013: up to +33.7 % from twice the data).",
        verdict(pairs) if len(pairs) == len(BACKBONES) else OPEN,
        f"Twice the data minus twice the model on {GAME}: {', '.join(map(said, pairs))} points.",
        "More games and seeds, and a learning rate for each size, may change this.",
    )


def _draw(figure: Figure, surfaces: Mapping[tuple[str, str], Grid], known: Mapping[str, float | None]) -> None:
    for column, ((task, backbone), losses) in enumerate(surfaces.items()):
        axes = figure.add_subplot(1, len(surfaces), column + 1)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set(title=f"{backbone}, {task}", xlabel="unique episodes", ylabel="held-out loss" if column == 0 else "")
        for index, size in enumerate(losses.sizes):
            style: dict[str, Any] = {"marker": MARKERS[index], "linestyle": LINES[index % 4], "color": COLOURS[index]}
            axes.plot(losses.amounts, losses.mean[index], label=f"{size:,.0f} parameters", **style)
        if (least := known[task]) is not None:
            axes.axhline(least, color="black", linewidth=1, linestyle=":", label="ideal predictor")
        axes.set_xscale("log")
        axes.set_xticks(losses.amounts, [f"{amount:g}" for amount in losses.amounts])
        axes.minorticks_off()
        axes.legend(frameon=False, fontsize=9)


SCALING = Study(
    "scaling", "Are more data worth more than a larger model, and is there a scaling law?", parts, smallest, read
)
