"""From a cell and its data to the agent."""

from collections.abc import Iterable
from dataclasses import replace

import torch

from backbench.agents.agent import Agent
from backbench.agents.build import ModelSettings, Spaces, build_agent
from backbench.agents.heads import ActionSpace
from backbench.backbones.build import build
from backbench.backbones.contract import Backbone
from backbench.benchmarks.data import store
from backbench.benchmarks.data.trajectories import Trajectories
from backbench.benchmarks.plan.settings import Cell


def make_backbone(cell: Cell) -> Backbone:
    """The cell's backbone alone."""
    return build(cell.backbone, cell.options, ModelSettings(**vars(cell.model)).spec)


def make_agent(cell: Cell, data: Trajectories, timesteps: int = 0, head: str = "") -> Agent:
    """The cell's agent, with new weights from the cell's seed and with the statistics of ``data``.

    ``timesteps`` are the rows of the timestep table, 0 for as many as the data and the evaluation need. ``head`` names
    the action head, "" for that of the data's actions. Both are known when an agent is loaded.
    """
    torch.manual_seed(cell.seed)
    spaces = replace(_spaces(cell, data, timesteps or max_timesteps(cell, data)), head=head)
    return build_agent(cell.backbone, cell.options, ModelSettings(**vars(cell.model)), spaces)


def seen(cell: Cell, data: Trajectories) -> Trajectories:
    """``data`` as the cell's agent sees them: stacked frames, or filtered vectors. UserError: an index is not there."""
    stack = cell.kind.stack(cell.environment)
    return data.stacked(stack) if stack else data.observed(cell.task.observe)


def max_timesteps(cell: Cell, data: Trajectories) -> int:
    """Rows of the timestep table: the longest episode of the data, and of the evaluation."""
    longest = int(data.lengths.max())
    # An Atari game's longest possible episode would need a table larger than the model. The originals use the longest
    # episode of the data.
    return longest if cell.kind.timesteps_from_data else max(longest, cell.task.max_steps, cell.max_steps)


def still_columns(cells: Iterable[Cell]) -> list[str]:
    """One line for each data set with state columns that do not vary, and so are not scaled.

    Reads each data set; DataError if one cannot be read.
    """
    said = []
    different = {(cell.task.data_id, cell.task.observe): cell for cell in cells if not cell.kind.frames}
    for (name, observe), cell in different.items():
        if columns := seen(cell, store.read(name)).still_columns:
            columns = [observe.keep[column] if observe and observe.keep else column for column in columns]
            which = f"column {columns[0]} does" if len(columns) == 1 else f"columns {_listed(columns)} do"
            said.append(f"data set {name}: state {which} not vary, so the scale is 1; bench data show {name}")
    return said


def _listed(columns: list[int]) -> str:
    return ", ".join(map(str, columns[:8])) + (f" and {len(columns) - 8} more" if len(columns) > 8 else "")


def _spaces(cell: Cell, data: Trajectories, timesteps: int) -> Spaces:
    discrete = data.n_actions is not None
    statistics = None
    if not cell.kind.frames:
        mean, std = data.state_statistics()
        statistics = torch.from_numpy(mean), torch.from_numpy(std)
    return Spaces(
        state_shape=data.state_shape,
        actions=ActionSpace(data.n_actions or data.actions.shape[1], discrete, cell.eval.temperature),
        max_timesteps=timesteps,
        return_scale=cell.task.return_scale,
        statistics=statistics,
    )
