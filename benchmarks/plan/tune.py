"""``--tune N``: every backbone tries N settings, on starts and a seed that no reported cell has.

Comma lists of the request are the settings; without one they are N learning rates. A suite may declare on which of its
tasks they are tried, and how. Which one is best, ``leaderboard.board.tuning`` says.

With a sampler each backbone has its own settings, from intervals and lists of the request: see ``benchmarks.tune``.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from backbench.benchmarks.plan import overrides, suites
from backbench.benchmarks.plan.compose import plan, source_of
from backbench.benchmarks.plan.request import Budget, Request
from backbench.benchmarks.plan.settings import Cell
from backbench.errors import UserError, require
from backbench.leaderboard.record.identity import MATCH, SELECTION, TRIAL, TUNE, proposed_tag, tuning_tag

if TYPE_CHECKING:
    from backbench.benchmarks.plan.suite_file import Suite

UNTUNED = ("eval.", "atari.", "data.source", "data.rewards")  # they change what is scored, or on which data
LOWEST, HIGHEST = 5e-4, 8e-3  # of the learning rates
SAMPLERS = GRID, OPTUNA = "grid", "optuna"


@dataclass(frozen=True)
class Dimension:
    """Values of one key, from which a sampler proposes: ``choices``, or numbers from ``low`` to ``high``."""

    key: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 1.0
    log: bool = False

    @property
    def word(self) -> str:
        """As an override."""
        if self.choices:
            return f"{self.key}={','.join(self.choices)}"
        inside = f"interval({self.low:g},{self.high:g})"
        return f"{self.key}={f'tag(log,{inside})' if self.log else inside}"

    def override(self, value: float | str) -> str:
        """A value as an override. Numbers have three digits: what is run is what is said."""
        return f"{self.key}={value if isinstance(value, str) else format(float(f'{value:.2e}'), 'g')}"

    def holds(self, override: str) -> bool:
        """Whether this could be an override from here. Rounding may move a number past an end."""
        key, _, text = override.partition("=")
        if key != self.key or self.choices:
            return key == self.key and text in self.choices
        number = float(text) if re.fullmatch(r"-?\d+(\.\d+)?(e[+-]\d+)?", text) else math.nan
        return self.low - 0.01 * abs(self.low) <= number <= self.high + 0.01 * abs(self.high)


@dataclass(frozen=True)
class Tuning:
    """The trials of a request, and what is reported once they have run."""

    request: Request  # without the lists
    budget: Budget
    settings: tuple[tuple[str, ...], ...]  # each a value of every list; none if a sampler proposes them
    tasks: tuple[str, ...]  # of the trials
    declared: tuple[str, ...]  # settings of the trials alone
    tag: str  # the budget, keys and a digest, such as 4:train.lr:0a1b2c3d
    untuned: tuple[Cell, ...]  # the request's cells: what is wrong with them is wrong before the trials run
    space: tuple[Dimension, ...] = ()  # from which a sampler proposes

    @property
    def tried(self) -> dict[str, tuple[tuple[str, ...], ...]]:
        """Backbone -> its settings, where all are known in advance."""
        return dict.fromkeys(self.request.backbones, self.settings)

    @property
    def inside(self) -> tuple[str, ...]:
        """A setting that a sampler could propose: from within each interval, and no whole number."""
        return tuple(
            one.override(one.choices[0] if one.choices else one.low + 0.3713 * (one.high - one.low))
            for one in self.space
        )

    @cached_property
    def trials(self) -> list[Cell]:
        """The cells of ``tried``."""
        return self.trials_of(self.tried)

    def trials_of(self, tried: Mapping[str, Sequence[tuple[str, ...]]]) -> list[Cell]:
        """The cells of the trials of some settings of each backbone."""
        made: list[Cell] = []
        for setting in dict.fromkeys(itertools.chain.from_iterable(tried.values())):
            names = tuple(name for name in self.request.backbones if setting in tried.get(name, ()))
            together: list[tuple[str, ...]] = [(name,) for name in names] if self.space else [names]
            for some in together:
                if (setting, some) not in self._planned:
                    self._planned[setting, some] = self._plan(setting, some)
                made += self._planned[setting, some]
        return sorted(made, key=lambda cell: self.request.backbones.index(cell.backbone))

    @cached_property
    def _planned(self) -> dict[tuple[tuple[str, ...], tuple[str, ...]], list[Cell]]:
        """A sampler asks for the same cells again and again."""
        return {}

    def _plan(self, setting: tuple[str, ...], names: tuple[str, ...]) -> list[Cell]:
        request = replace(
            self.request,
            backbones=names,
            tasks=self.tasks,
            seeds=(SELECTION,),
            overrides=(*self.request.overrides, *setting),
            declared=self.declared,
            mark=f"{TRIAL}{self.tag}",
        )
        return [replace(cell, eval=replace(cell.eval, seed=cell.eval.seed + SELECTION)) for cell in plan(request)]

    def reported(self, chosen: Mapping[str, tuple[str, ...]]) -> list[Cell]:
        """The cells of the request. ``chosen``: backbone -> its setting; one that is not there has no cells."""
        made: dict[str, list[Cell]] = {name: [] for name in self.request.backbones}
        matched = any(word.startswith(MATCH) for word in self.request.overrides)  # names other backbones
        for setting in dict.fromkeys(chosen.values()):
            names = tuple(name for name in self.request.backbones if chosen.get(name) == setting)
            request = replace(
                self.request,
                backbones=self.request.backbones if matched else names,
                overrides=(*self.request.overrides, *setting),
                mark=f"{TUNE}{self.tag}",
            )
            cells = plan(request)
            made |= {name: [cell for cell in cells if cell.backbone == name] for name in names}
        return [cell for name in self.request.backbones for cell in made[name]]


def tuning(request: Request, tune: int | str, sampler: str = GRID) -> Tuning:
    """How to tune a request with so many settings, all combinations of its lists or those that ``sampler`` proposes.
    ``tune``: their number, or ``2e15flops`` for as many as so many FLOPs of training allow.

    Raises:
        UserError: it cannot be, or the request is wrong.
    """
    require(sampler in SAMPLERS, f"--sampler {sampler}: give {' or '.join(SAMPLERS)}")
    budget = Budget.of(tune)
    count, word = budget.count, budget.word
    require(count > 1 or budget.flops > 0, f"--tune {word}: one setting is no choice; give 2 or more")
    require(SELECTION not in request.seeds, f"--seeds: {SELECTION} is the seed of trials; give another")
    overrides.check(request.overrides)
    named = next((text for text in request.overrides if text.startswith(TUNE)), "")
    require(not named, f"--tune {word} makes a tuned row, and {named} names one; remove the word {named}")
    if sampler != GRID:
        return _proposed(request, budget)
    require(count > 0, f"--tune {word}: a grid has a number of settings; add --sampler {OPTUNA}, or give a number")
    ranges = [text for text in request.overrides if overrides.interval(text) is not None]
    require(not ranges, f"{' '.join(ranges[:1])}: an interval needs --sampler {OPTUNA}; or give a list")
    choices = overrides.choices(request.overrides, request.max_cells)
    base = tuple(one for values in choices for one in values if len(values) == 1)
    lists = [values for values in choices if len(values) > 1] or [_rates(base, count)]
    settings = tuple(itertools.islice(itertools.product(*lists), request.max_cells + 1))
    keys = [values[0].partition("=")[0] for values in lists]
    if len(settings) != count:
        raise UserError(f"--tune {count}: the lists of {', '.join(keys)} make {len(settings):,} settings; give as many")
    _check_keys(keys)
    if any(word.startswith(MATCH) for word in base) and (
        wrong := [k for k in keys if k.startswith(("model.", "backb"))]
    ):
        raise UserError(f"--tune: match=params sets the size, and {wrong[0]} may change it; give one of the two")
    tasks, declared = _declared(request, word)
    base_request = replace(request, overrides=base)
    tag = tuning_tag([" ".join(sorted(setting)) for setting in settings], tasks)
    found = Tuning(base_request, budget, settings, tasks, declared, tag, tuple(plan(base_request)))
    if len(set(settings)) < count or len({cell.key for cell in found.trials}) != len(found.trials):
        raise UserError(f"--tune {count}: two of the settings are the same; give {count} different ones")
    return found


def _proposed(request: Request, budget: Budget) -> Tuning:
    """A tuning whose settings a sampler proposes: from the request's intervals and lists, or from learning rates."""
    space, rest = [], []
    for text in request.overrides:
        if (found := overrides.interval(text)) is None:
            rest.append(text)
        else:
            key, low, high, log = found
            space.append(Dimension(key, (), low, high, log))
    base = []
    for values in overrides.choices(rest, request.max_cells):
        if len(values) == 1:
            base += values
        else:
            key = values[0].partition("=")[0]
            space.append(Dimension(key, tuple(value.partition("=")[2] for value in values)))
    if not space:
        _check_rate(base)
        space = [Dimension("train.lr", (), LOWEST, HIGHEST, log=True)]
    _check_keys([one.key for one in space])
    if any(word.startswith(MATCH) for word in base):
        raise UserError(f"--sampler {OPTUNA}: match=params compares all backbones at one setting; use --sampler {GRID}")
    tasks, declared = _declared(request, budget.word)
    asked = replace(request, overrides=tuple(base))
    tag = proposed_tag(budget.word, [one.word for one in space], tasks)
    made = Tuning(asked, budget, (), tasks, declared, tag, tuple(plan(asked)), tuple(space))
    plan(replace(asked, overrides=(*base, *made.inside)))  # what cannot be proposed is wrong before the trials run
    return made


def _check_keys(keys: Sequence[str]) -> None:
    if wrong := [key for key in keys if key.startswith(UNTUNED)]:
        raise UserError(f"--tune: {wrong[0]} changes what is scored, so it is not tuned; give one value")


def _declared(request: Request, word: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tasks and settings of trials alone, as the suite declares them. UserError if scores have no mean."""
    table = suites.table(request.suite)
    tasks = table.tune.tasks if table.tune is not None else _all_tasks(request, table)
    if table.normaliser == "none" and len(tasks) > 1:
        raise UserError(
            f"--tune {word}: returns of suite '{table.name}' share no scale, so their mean chooses nothing; "
            "give it a normaliser, or one task under tune"
        )
    return tasks, table.tune.settings if table.tune is not None else ()


def _all_tasks(request: Request, table: Suite) -> tuple[str, ...]:
    """Those that have the request's data source."""
    source = source_of(request, table)
    return tuple(name for name, row in table.tasks.items() if source in row.sources)


def _check_rate(base: Sequence[str]) -> None:
    given = [text for text in base if text.startswith("train.lr=")]
    require(not given, f"--tune chooses a learning rate, and {' '.join(given)} sets it; remove one of the two")


def _rates(base: tuple[str, ...], count: int) -> list[str]:
    """``count`` learning rates, evenly spaced on a logarithmic scale, with two digits."""
    _check_rate(base)
    rates = [LOWEST * (HIGHEST / LOWEST) ** (i / (count - 1)) for i in range(count)]
    return [f"train.lr={float(f'{rate:.1e}'):g}" for rate in rates]
