"""``match=params``: a width for each backbone at which its agent is as large as the reference's.

The count is a record's ``parameters_total``: trainable parameters of the complete agent, whose embeddings and head grow
with the width too. One width serves all tasks of the suite, whichever run, so that a row is one model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from backbench.benchmarks.plan.settings import Cell
from backbench.errors import UserError
from backbench.leaderboard.record.identity import MATCH, MATCHED, with_match

WIDEST = 4096
# Kernels are fast at round widths, and a cost at an odd one says little: the roundest width that fits wins.
STEPS = (16, 8, 4, 2, 1)


class Broken(UserError):
    """Building the backbone raised something else than a ``UserError``."""


def asked(overrides: Sequence[str], backbones: Sequence[str]) -> tuple[list[str], str | None]:
    """The overrides without ``match=…``, and the backbone that it names, else None. UserError if it is malformed."""
    found = [text for text in overrides if text.startswith(MATCH)]
    if not found:
        return list(overrides), None
    what, _, name = found[0].removeprefix(MATCH).partition(":")
    if len(found) > 1 or what != "params" or "," in name or not backbones:
        raise UserError(f"override '{' '.join(found)}': give match=params, or match=params:BACKBONE, once")
    reference = name or backbones[0]
    if all(backbone == reference for backbone in backbones):
        raise UserError(f"override '{found[0]}': --backbone names no other backbone than {reference}; name another")
    return [text for text in overrides if text not in found], reference


def match(cells: Sequence[Cell], reference: str) -> list[Cell]:
    """The cells of a complete grid, with other widths for all backbones but ``reference``, named in their ``variant``.

    Raises:
        UserError: a backbone has no width within ``MATCHED`` (names the nearest ones), or data are missing.
    """
    rows: dict[tuple[str, str], dict[str, Cell]] = {}
    for cell in cells:
        rows.setdefault((cell.backbone, cell.variant), {})[cell.task.name] = cell
    counted: dict[str, int] = {}
    sizes: dict[str, Any] = {}

    def count(cell: Cell) -> int:
        """Parameters of the agent of ``cell``; ``UserError`` for a width that the backbone refuses."""
        where = _environment(cell)
        if where not in sizes:
            sizes[where] = _shapes(cell)
        known = repr((cell.backbone, cell.options, cell.model, where, cell.task.max_steps))
        if known not in counted:
            counted[known] = _parameters(cell, sizes[where])
        return counted[known]

    widths: dict[tuple[str, str], int] = {}
    for (backbone, variant), tasks in rows.items():
        if backbone != reference:
            goals = {name: count(rows[reference, variant][name]) for name in tasks}
            widths[backbone, variant] = _width(tasks, goals, count, reference)
    made = []
    for cell in cells:
        width = widths.get((cell.backbone, cell.variant))
        variant = cell.variant if width is None else with_match(cell.variant, reference, width)
        made.append(cell if width is None else replace(_with_width(cell, width), variant=variant))
    return made


def _with_width(cell: Cell, width: int) -> Cell:
    return replace(cell, model=replace(cell.model, d_model=width))


def _width(tasks: Mapping[str, Cell], goals: Mapping[str, int], count: Callable[[Cell], int], reference: str) -> int:
    """The roundest width at which the agents of all ``tasks`` have about ``goals`` parameters."""
    for cell in tasks.values():
        try:
            count(cell)
        except Broken:  # at its own width, so it cannot run without a match either
            raise
        except UserError:
            continue
    refused = ""

    @cache
    def counts(width: int) -> dict[str, int] | None:
        nonlocal refused
        try:
            return {name: count(_with_width(cell, width)) for name, cell in tasks.items()}
        except UserError as error:
            refused = str(error)
            return None

    near: list[tuple[int, dict[str, int]]] = []
    for step in STEPS:
        near = _around(counts, sum(goals.values()), step)
        fitting = {width: worst for width, found in near if (worst := _worst(found, goals)[0]) <= MATCHED}
        if fitting:
            return min(fitting, key=lambda width: fitting[width])
    backbone = next(iter(tasks.values())).backbone
    if not near:
        raise UserError(f"match=params: no width of {backbone} can be built: {refused}")
    shown = []
    for width, found in near:
        off, name = _worst(found, goals)
        shown.append(f"{width} makes {found[name]:,} of {goals[name]:,} ({name}, {off:.1%} off)")
    raise UserError(
        f"match=params: no model.d_model of {backbone} comes within {MATCHED:.0%} of {reference}'s parameters: "
        f"{'; '.join(shown)}; change model.n_layers, or remove {backbone}"
    )


def _worst(found: Mapping[str, int], goals: Mapping[str, int]) -> tuple[float, str]:
    """Largest relative deviation, and the task that has it."""
    return max((abs(found[name] - goal) / max(goal, 1), name) for name, goal in goals.items())


def _around(counts: Callable[[int], dict[str, int] | None], goal: int, step: int) -> list[tuple[int, dict[str, int]]]:
    """The widest multiple of ``step`` with at most ``goal`` parameters, and the next one, of those that can be built.

    The number of parameters grows with the width.
    """

    def next_(number: int) -> tuple[int, dict[str, int]] | None:
        for width in range(number * step, min(number + 64, WIDEST // step) * step + 1, step):  # a multiple of the heads
            if (found := counts(width)) is not None:
                return width, found
        return None

    low, high = 0, WIDEST // step + 1
    best: dict[int, tuple[int, dict[str, int]]] = {}
    while high - low > 1:
        middle = (low + high) // 2
        found = next_(middle)
        if found is None or sum(found[1].values()) > goal:
            high = middle
        else:
            low = middle
        if found is not None:
            best[middle] = found
    return [found for number in (low, high) if (found := best.get(number)) is not None]


def _environment(cell: Cell) -> str:
    """What decides the sizes of states, actions and the table of timesteps."""
    return repr((cell.environment, cell.task.data_id, cell.max_steps))


def _shapes(cell: Cell) -> Any:
    """Data of the sizes of the cell's agent: its own, or one step of zeros if all generated episodes fit the task."""
    import numpy as np

    from backbench.benchmarks.data import sources, store
    from backbench.benchmarks.data.trajectories import Trajectories
    from backbench.benchmarks.plan.assemble import seen

    name, source = cell.task.data_id, sources.SOURCES.get(cell.data.source)
    if store.exists(name):
        return seen(cell, store.read(name))
    sources.plan([(cell.data.source, name)])  # says how to get a set that can be neither generated nor fetched
    if cell.kind.timesteps_from_data or source.kind != "made":
        command = f"make it first: bench data make {name}" if source.kind == "made" else source.command(name)
        raise UserError(
            f"match=params: the longest episode of {name!r} sets the size of an agent, and the set is not in the store "
            f"{store.root()}; {command}"
        )
    cell.kind.probe(cell.environment)
    state_shape, n_actions, actions = cell.kind.sizes(cell.environment)
    return Trajectories(
        states=np.zeros((1, *state_shape), dtype=np.float32),
        actions=np.zeros((1, actions), dtype=np.float32) if n_actions is None else np.zeros(1, dtype=np.int64),
        rewards=np.zeros(1),
        terminated=np.zeros(1, dtype=bool),
        offsets=np.array([0, 1]),
        n_actions=n_actions,
    )


def _parameters(cell: Cell, shapes: Any) -> int:
    """Trainable parameters of the cell's agent, built without memory if its code allows that."""
    import torch

    from backbench.agents.build import count_parameters
    from backbench.benchmarks.plan.assemble import make_agent

    for device in ("meta", "cpu"):
        try:
            with torch.random.fork_rng(devices=[]), torch.device(device):
                return count_parameters(make_agent(cell, shapes))
        except UserError:
            raise
        except Exception as error:  # a plug-in that computes with its weights, or cannot have this width
            problem = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    raise Broken(f"match=params: {cell.backbone} cannot be built at model.d_model={cell.model.d_model}: {problem}")
