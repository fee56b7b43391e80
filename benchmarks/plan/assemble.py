"""From a cell to its agent."""

from __future__ import annotations

import torch
from torch import nn

from backbench.agents.agent import Agent, continuous_agent, discrete_agent
from backbench.agents.encoders import PixelEncoder, VectorEncoder
from backbench.agents.tokenizer import TOKENS_PER_STEP, TokenConfig
from backbench.backbones.build import build
from backbench.backbones.contract import Backbone, Spec
from backbench.benchmarks.data.trajectories import Trajectories
from backbench.benchmarks.plan.settings import Cell


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
    """The cell's agent with fresh weights drawn from the cell's seed; state vectors are standardised by ``data``."""
    torch.manual_seed(cell.seed)
    model = cell.model
    tokens = TokenConfig(
        max_timesteps=int(data.lengths.max()) if cell.kind.timesteps_from_data else cell.task.max_steps,
        return_scale=cell.task.return_scale,
        dropout=model.dropout,
        timestep=model.timestep,
        embedding=model.embedding,
        context=model.context,
    )
    backbone = make_backbone(cell)
    encoder: nn.Module
    if cell.kind.frames:
        encoder = PixelEncoder(model.encoder, data.state_shape, model.d_model)
    else:
        mean, std = data.state_statistics()
        encoder = VectorEncoder(torch.from_numpy(mean), torch.from_numpy(std), model.d_model)
    if data.n_actions is not None:
        return discrete_agent(backbone, encoder, data.n_actions, model.d_model, tokens, cell.eval.temperature)
    return continuous_agent(backbone, encoder, data.actions.shape[1], model.d_model, tokens)
