"""``bench study reach``: how far back a policy looks, and whether it must."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.data import store
from backbench.benchmarks.plan.assemble import make_agent, seen
from backbench.benchmarks.replay.load import head_of, load_agent
from backbench.benchmarks.replay.trust import cell_to_run
from backbench.benchmarks.run.checkpoint import LAST
from backbench.benchmarks.studies.reach.causal import causal
from backbench.benchmarks.studies.reach.density import attention_distances, density
from backbench.benchmarks.studies.reach.eigenvalues import Spectrum, TimeConstants, eigenvalues, time_constants, without
from backbench.benchmarks.studies.reach.sample import sample
from backbench.benchmarks.studies.report import COLOURS, LINES, MARKERS
from backbench.benchmarks.studies.study import (
    CONTRADICTED,
    OPEN,
    SUPPORTED,
    Arm,
    Claim,
    Part,
    Picture,
    Reading,
    Records,
    Study,
    Table,
)
from backbench.errors import UserError
from backbench.leaderboard.record.schema import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BACKBONES = ("transformer", "mamba", "gloma", "mamba2", "gru", "lru", "gated_deltanet")
TASKS = {"memory": ("repeat-4", "tmaze-24"), "memory-seen": ("repeat-4",), "d4rl": ("hopper-medium-replay",)}
RATE = "train.lr=0.003"  # of the memory tasks: their trials chose it or its neighbours
KNOWN = {"memory/repeat-4": 4, "memory-seen/repeat-4": 0}  # the lag that decides
WINDOWS, QUERIES = 24, 4  # of a measurement, and steps of each window


@dataclass(frozen=True)
class Reach:
    """What was measured of one trained agent."""

    record: Record
    share: NDArray[np.float64]  # recall density over lags, between two episodes
    effect: NDArray[np.float64]  # of each lag in the causal check
    half: int  # the lag within which half of the density lies
    most: int  # and 90 %
    constants: Sequence[TimeConstants]
    spectra: Mapping[str, Sequence[Spectrum]]  # "start" and "trained"
    distance: float | None  # mean attention distance over layers and heads, in steps
    absent: Sequence[str]  # what is not defined for it, and why

    @property
    def task(self) -> str:
        return f"{self.record.identity.suite}/{self.record.identity.task}"


def parts(preset: str) -> Sequence[Part]:
    """Each backbone on tasks whose answer is known, and on one of Gym."""
    if preset == "smoke":
        return [Part("memory", ("repeat-4",), (Arm("gloma", "gloma"),), (0,), (RATE,))]
    arms = tuple(Arm(name, name) for name in BACKBONES)
    seeds = (0, 1) if preset == "quick" else (0, 1, 2)
    return [Part(suite, tasks, arms, seeds, (RATE,) if suite != "d4rl" else ()) for suite, tasks in TASKS.items()]


def smallest(parts: Sequence[Part]) -> str:
    """Of the one claim, which a sign test decides."""
    agents = sum(len(part.tasks) * len(part.seeds) for part in parts)
    return (
        f"Smallest effect: none in steps. Of {agents} trained agents a backbone, all or nearly all must agree in a "
        f"direction: by chance {agents} do in {0.5 ** (agents - 1):.1%} of such studies."
    )


def measure(record: Record, found: Records) -> Reach:
    """Measure the agent of ``record``, whose weights are in the folder of results. UserError if they are not."""
    cell = cell_to_run(record, record.key, False)
    weights = cell.checkpoint_folder(found.folder) / LAST
    agent = load_agent(cell, weights, head_of(record), record.provenance.weights_sha256)
    data = seen(cell, store.read(cell.task.data_id))
    on = sample(cell, data, WINDOWS, queries=QUERIES)
    recalled = density(agent, on.windows, on.at, on.others)
    distances = attention_distances(agent, on.windows, on.at)
    fresh = make_agent(cell, data)
    return Reach(
        record,
        recalled.share,
        causal(agent, on.windows, on.others, on.at).effect,
        recalled.holds(0.5),
        recalled.holds(0.9),
        time_constants(agent, on.windows, on.at),
        {"start": eigenvalues(fresh), "trained": eigenvalues(agent)},
        float(np.mean([one.steps for one in distances])) if distances else None,
        without(agent, "eigenvalues"),
    )


def read(found: Records) -> Reading:
    """Lags that hold half and 90 %, peaks against the known lag, time constants and eigenvalues."""
    measured = [measure(record, found) for arm in found.arms() for record in found.by_arm[arm]]
    if not measured:
        raise UserError("no finished record with weights: run the study's cells first, or name a folder with --results")
    rows = [
        [
            _name(one), one.half, one.most, int(one.share.argmax()), int(one.effect.argmax()), KNOWN.get(one.task),
            float(one.effect.sum()), one.distance,
        ]
        for one in measured
    ]  # fmt: skip
    heads = ["backbone, task", "50 % within lag", "90 % within lag", "peak of density", "peak of the causal check",
             "known lag", "change of the action in all", "attention distance"]  # fmt: skip
    tables = [Table("reach", "Lags in environment steps", heads, rows, digits=2), _constants(measured)]
    tables.append(_spectra(measured))
    absent = sorted({line for one in measured for line in one.absent})
    notes = [
        "Density is by integrated gradients between two episodes. The causal check replaces the past by another "
        "episode's.",
        "On repeat the lag 4 decides, on its twin with the answer shown the present. What lies elsewhere is smearing.",
        "On tmaze the cue is the first step, so its lag is that of the question: 23.",
        *(f"No eigenvalues: {line}." for line in absent),
    ]
    picture = Picture(
        "reach",
        "Recall density and causal check over lags, a column for each task, a line for each backbone",
        lambda figure: _draw(figure, measured),
        (4.0 * len({one.task for one in measured}), 6.4),
    )
    spectrum = Picture(
        "eigenvalues",
        "Eigenvalues of A at the start and trained, by branch of GLoMa",
        lambda figure: _scatter(figure, measured),
        (3.4 * max(1, len({one.record.identity.backbone for one in measured if one.spectra["trained"]})), 4.0),
    )
    shown = [picture] + ([spectrum] if any(one.spectra["trained"] for one in measured) else [])
    return Reading([_claim(measured)], tables, shown, notes)


def _name(one: Reach) -> str:
    return f"{one.record.identity.backbone}, {one.task}"


def _claim(measured: Sequence[Reach]) -> Claim:
    """That GLoMa's branches look at different ranges."""
    pairs = []
    for one in measured:
        medians: dict[str, list[float]] = {}
        for constant in one.constants:
            medians.setdefault(constant.branch, []).append(float(constant.steps[len(constant.steps) // 2]))
        if {"global", "local"} <= set(medians):
            pairs.append((one.task, float(np.median(medians["global"])), float(np.median(medians["local"]))))
    said = "; ".join(f"{task}: global {far:.1f}, local {near:.1f} steps" for task, far, near in pairs)
    return Claim(
        "The eigenvalues of GLoMa's branches differ: the global branch looks further (arXiv:2406.02013).",
        sign_test(sum(far > near for _, far, near in pairs), len(pairs)),
        f"Median time constants of states, {said}; a sign test over agents."
        if pairs
        else "No gloma among the records.",
        "The local branch forgets after its window whatever its time constants are. More seeds and tasks would show "
        "whether training moves them apart.",
    )


def sign_test(times: int, of: int) -> str:
    """The verdict if a claim holds ``times`` ``of`` agents: two-sided, 95 %."""
    ways = [math.comb(of, k) / 2**of for k in range(of + 1)]
    if sum(ways[times:]) < 0.025:
        return SUPPORTED
    return CONTRADICTED if sum(ways[: times + 1]) < 0.025 else OPEN


def _constants(measured: Sequence[Reach]) -> Table:
    rows = [
        [f"{_name(one)}, layer {of.layer}{f', {of.branch}' if of.branch else ''}, {of.token}", *map(float, of.steps)]
        for one in measured
        for of in one.constants
    ]
    heads = ["backbone, task, layer, token", "5 %", "25 %", "median", "75 %", "95 %"]
    return Table(
        "time-constants", "Time constants of states, environment steps, quantiles over states and tokens", heads, rows
    )


def _spectra(measured: Sequence[Reach]) -> Table:
    rows = []
    for one in measured:
        for when, spectra in one.spectra.items():
            for of in spectra:
                real, most = of.values.real, float(np.abs(of.values.imag).max())
                name = f"{_name(one)}, layer {of.layer}{f', {of.branch}' if of.branch else ''}, {when}, {of.domain}"
                rows.append([name, float(real.min()), float(np.median(real)), float(real.max()), most])
    heads = ["backbone, task, layer, branch", "smallest real part", "median", "largest", "largest imaginary part"]
    return Table("eigenvalues", "Eigenvalues that no token changes", heads, rows, digits=3)


def _draw(figure: Figure, measured: Sequence[Reach]) -> None:
    tasks = list(dict.fromkeys(one.task for one in measured))
    for column, task in enumerate(tasks):
        for line, (what, title) in enumerate((("share", "recall density"), ("effect", "causal check"))):
            axes = figure.add_subplot(2, len(tasks), line * len(tasks) + column + 1)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set(
                title=task if line == 0 else "", xlabel="lag, steps" if line else "", ylabel="" if column else title
            )
            for index, one in enumerate([one for one in measured if one.task == task]):
                values = getattr(one, what)
                style: dict[str, Any] = {
                    "marker": MARKERS[index % 8], "linestyle": LINES[index % 4], "color": COLOURS[index % 8]
                }  # fmt: skip
                axes.plot(range(len(values)), values, label=one.record.identity.backbone, markevery=0.15, **style)
            if task in KNOWN:
                axes.axvline(KNOWN[task], color="black", linewidth=1, linestyle=":")
            if column == 0 and line == 0:
                axes.legend(frameon=False, fontsize=9)


def _scatter(figure: Figure, measured: Sequence[Reach]) -> None:
    """The distribution of real ones, or all of them in the plane; a column for each backbone's first task."""
    shown = {one.record.identity.backbone: one for one in reversed(measured) if one.spectra["trained"]}
    for column, (backbone, one) in enumerate(shown.items()):
        axes = figure.add_subplot(1, len(shown), column + 1)
        axes.spines[["top", "right"]].set_visible(False)
        real = not any(of.values.imag.any() for spectra in one.spectra.values() for of in spectra)
        axes.set(title=backbone, xlabel="real part", ylabel="share that is smaller" if real else "imaginary part")
        for index, (when, spectra) in enumerate(one.spectra.items()):
            for branch in dict.fromkeys(of.branch for of in spectra):
                values = np.concatenate([of.values for of in spectra if of.branch == branch])
                place, label = {"global": 0, "local": 1}.get(branch, 0), f"{branch or 'A'}, {when}"
                if real:
                    style: dict[str, Any] = {"linestyle": LINES[place], "color": COLOURS[index], "linewidth": 1.6}
                    axes.plot(np.sort(values.real), np.linspace(0, 1, len(values)), label=label, **style)
                else:
                    style = {"marker": MARKERS[index], "color": COLOURS[index], "alpha": 0.5, "s": 14}
                    axes.scatter(values.real, values.imag, label=label, **style)
        axes.legend(frameon=False, fontsize=8)


REACH = Study("reach", "How far back does each policy look, and must it?", parts, smallest, read, reads_any=True)
