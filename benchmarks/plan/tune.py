"""``--tune N``: every backbone gets the same N settings, tried on starts and a seed that no reported cell has.

Comma lists of the request are the settings; without one they are N learning rates. A suite may declare on which of its
tasks they are tried, and how. Which one is best, ``leaderboard.board.tuning`` says.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from backbench.benchmarks.plan import overrides, suites
from backbench.benchmarks.plan.compose import plan, source_of
from backbench.benchmarks.plan.request import Request
from backbench.benchmarks.plan.settings import Cell
from backbench.errors import UserError, require
from backbench.leaderboard.record.identity import MATCH, SELECTION, TRIAL, TUNE, tuning_tag

if TYPE_CHECKING:
    from backbench.benchmarks.plan.suite_file import Suite

UNTUNED = ("eval.", "atari.", "data.source", "data.rewards")  # they change what is scored, or on which data
LOWEST, HIGHEST = 5e-4, 8e-3  # of the learning rates


@dataclass(frozen=True)
class Tuning:
    """The trials of a request, and what is reported once they have run."""

    request: Request  # without the lists
    settings: tuple[tuple[str, ...], ...]  # each a value of every list
    tasks: tuple[str, ...]  # of the trials
    declared: tuple[str, ...]  # settings of the trials alone
    tag: str  # number of settings, keys and a digest, such as 4:train.lr:0a1b2c3d
    untuned: tuple[Cell, ...]  # the request's cells: what is wrong with them is wrong before the trials run

    @cached_property
    def trials(self) -> list[Cell]:
        """The cells of the trials."""
        made = []
        for setting in self.settings:
            request = replace(
                self.request,
                tasks=self.tasks,
                seeds=(SELECTION,),
                overrides=(*self.request.overrides, *setting),
                declared=self.declared,
                mark=f"{TRIAL}{self.tag}",
            )
            made += plan(request)
        cells = [replace(cell, eval=replace(cell.eval, seed=cell.eval.seed + SELECTION)) for cell in made]
        return sorted(cells, key=lambda cell: self.request.backbones.index(cell.backbone))

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


def tuning(request: Request, count: int) -> Tuning:
    """How to tune a request with ``count`` settings.

    Raises:
        UserError: it cannot be, or the request is wrong.
    """
    require(count > 1, f"--tune {count}: one setting is no choice; give 2 or more")
    require(SELECTION not in request.seeds, f"--seeds: {SELECTION} is the seed of trials; give another")
    overrides.check(request.overrides)
    named = next((text for text in request.overrides if text.startswith(TUNE)), "")
    require(not named, f"--tune {count} makes a tuned row, and {named} names one; remove the word {named}")
    choices = overrides.choices(request.overrides, request.max_cells)
    base = tuple(one for values in choices for one in values if len(values) == 1)
    lists = [values for values in choices if len(values) > 1] or [_rates(base, count)]
    settings = tuple(itertools.islice(itertools.product(*lists), request.max_cells + 1))
    keys = [values[0].partition("=")[0] for values in lists]
    if len(settings) != count:
        raise UserError(f"--tune {count}: the lists of {', '.join(keys)} make {len(settings):,} settings; give as many")
    if wrong := [key for key in keys if key.startswith(UNTUNED)]:
        raise UserError(f"--tune: {wrong[0]} changes what is scored, so it is not tuned; give one value")
    if any(word.startswith(MATCH) for word in base) and (
        wrong := [k for k in keys if k.startswith(("model.", "backb"))]
    ):
        raise UserError(f"--tune: match=params sets the size, and {wrong[0]} may change it; give one of the two")
    table = suites.table(request.suite)
    tasks = table.tune.tasks if table.tune is not None else _all_tasks(request, table)
    if table.normaliser == "none" and len(tasks) > 1:
        raise UserError(
            f"--tune {count}: returns of suite '{table.name}' share no scale, so their mean chooses nothing; "
            "give it a normaliser, or one task under tune"
        )
    declared = table.tune.settings if table.tune is not None else ()
    base_request = replace(request, overrides=base)
    tag = tuning_tag([" ".join(sorted(setting)) for setting in settings], tasks)
    found = Tuning(base_request, settings, tasks, declared, tag, tuple(plan(base_request)))
    if len({cell.key for cell in found.trials}) != len(found.trials):
        raise UserError(f"--tune {count}: two of the settings are the same; give {count} different ones")
    return found


def _all_tasks(request: Request, table: Suite) -> tuple[str, ...]:
    """Those that have the request's data source."""
    source = source_of(request, table)
    return tuple(name for name, row in table.tasks.items() if source in row.sources)


def _rates(base: tuple[str, ...], count: int) -> list[str]:
    """``count`` learning rates, evenly spaced on a logarithmic scale, with two digits."""
    given = [text for text in base if text.startswith("train.lr=")]
    require(not given, f"--tune chooses a learning rate, and {' '.join(given)} sets it; remove one of the two")
    rates = [LOWEST * (HIGHEST / LOWEST) ** (i / (count - 1)) for i in range(count)]
    return [f"train.lr={float(f'{rate:.1e}'):g}" for rate in rates]
