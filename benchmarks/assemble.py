"""From a cell to its agent."""

from __future__ import annotations

import torch

from backbench.agents.agent import Agent, continuous_agent
from backbench.agents.encoders import VectorEncoder
from backbench.agents.tokenizer import TOKENS_PER_STEP
from backbench.backbones.build import build
from backbench.backbones.contract import Backbone, Spec
from backbench.benchmarks.config import Cell
from backbench.benchmarks.data.trajectories import Trajectories


def make_backbone(cell: Cell) -> Backbone:
    """The cell's backbone alone."""
    spec = Spec(
        d_model=cell.model.d_model,
        n_layers=cell.model.n_layers,
        dropout=cell.model.dropout,
        tokens_per_step=TOKENS_PER_STEP,
        max_length=TOKENS_PER_STEP * cell.model.context,
    )
    return build(cell.backbone, cell.options, spec)


def make_agent(cell: Cell, data: Trajectories) -> Agent:
    """The cell's agent with fresh weights drawn from the cell's seed; states standardised by ``data``."""
    torch.manual_seed(cell.seed)
    mean, std = data.state_statistics()
    return continuous_agent(
        backbone=make_backbone(cell),
        encoder=VectorEncoder(torch.from_numpy(mean), torch.from_numpy(std), cell.model.d_model),
        action_dim=data.actions.shape[1],
        d_model=cell.model.d_model,
        max_timesteps=cell.task.max_steps,
        return_scale=cell.task.return_scale,
        dropout=cell.model.dropout,
    )
