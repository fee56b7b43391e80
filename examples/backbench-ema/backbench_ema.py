"""A gated exponential moving average: one of the simplest mixers with a memory."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from backbench.backbones.contract import Mixer, no_weight_decay
from backbench.errors import UserError


@dataclass(frozen=True)
class EMAOptions:
    """Options of the moving average."""

    # The longest initial time scale, in tokens. The channels' time scales range from 1 to it.
    horizon: float = 30.0

    def __post_init__(self):
        if self.horizon < 1:
            raise UserError(f"ema: horizon={self.horizon}; give at least 1")


class EMA(Mixer):
    """h_t = a h_{t-1} + (1 - a) v_t, with a learned decay a per channel, and y_t = W (h_t * silu(gate_t))."""

    Options = EMAOptions

    def __init__(self, options, spec):
        super().__init__(options, spec)
        d = spec.d_model
        self.in_proj = nn.Linear(d, 2 * d)
        self.log_horizon = no_weight_decay(nn.Parameter(torch.linspace(0, math.log(options.horizon), d)))
        self.out_proj = nn.Linear(d, d)

    def forward(self, x):
        state, states = self.initial_state(len(x)), []
        v, gate = self.in_proj(x).chunk(2, dim=-1)
        for v_t in v.unbind(1):
            state = state + self.rate() * (v_t - state)
            states.append(state)
        return self.out_proj(torch.stack(states, 1) * F.silu(gate))

    def initial_state(self, batch, device=None, dtype=None):
        return self.log_horizon.new_zeros(batch, self.spec.d_model, device=device, dtype=dtype)

    def step(self, x_t, state):
        v_t, gate_t = self.in_proj(x_t).chunk(2, dim=-1)
        state = state + self.rate() * (v_t - state)
        return self.out_proj(state * F.silu(gate_t)), state

    def rate(self):
        return torch.sigmoid(-self.log_horizon)  # 1 - a = 1 / (1 + horizon)

    def projections(self):
        return (self.in_proj,)

    def residual_outputs(self):
        return (self.out_proj,)
