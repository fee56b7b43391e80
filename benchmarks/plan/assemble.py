"""From a cell and its data to the agent."""

import torch

from backbench.agents.agent import Agent
from backbench.agents.build import ModelSettings, Spaces, build_agent
from backbench.agents.heads import ActionSpace
from backbench.backbones.build import build
from backbench.backbones.contract import Backbone
from backbench.benchmarks.data.trajectories import Trajectories
from backbench.benchmarks.plan.settings import Cell


def make_backbone(cell: Cell) -> Backbone:
    """The cell's backbone alone."""
    return build(cell.backbone, cell.options, ModelSettings(**vars(cell.model)).spec)


def make_agent(cell: Cell, data: Trajectories) -> Agent:
    """The cell's agent, with new weights from the cell's seed and with the statistics of ``data``."""
    torch.manual_seed(cell.seed)
    return build_agent(cell.backbone, cell.options, ModelSettings(**vars(cell.model)), _spaces(cell, data))


def _spaces(cell: Cell, data: Trajectories) -> Spaces:
    discrete = data.n_actions is not None
    statistics = None
    if not cell.kind.frames:
        mean, std = data.state_statistics()
        statistics = torch.from_numpy(mean), torch.from_numpy(std)
    return Spaces(
        state_shape=data.state_shape,
        actions=ActionSpace(data.n_actions or data.actions.shape[1], discrete, cell.eval.temperature),
        # An Atari game's longest possible episode would need a table larger than the model. The originals use the
        # longest episode of the data.
        max_timesteps=int(data.lengths.max()) if cell.kind.timesteps_from_data else cell.task.max_steps,
        return_scale=cell.task.return_scale,
        statistics=statistics,
    )
