"""Mixers whose weights are set by hand, so that what they compute follows from the architecture, not from training.

A token is (1, mark, start, 0): `counting_tokens`. Only the first token is a start, and it is no mark.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from backbench.backbones import BACKBONES, make_options
from backbench.backbones.contract import Spec

LENGTH = 10_000
BIG = 50.0  # sigmoid and tanh of it are 1 in single precision
ONE, MARK, START = 0, 1, 2  # channels of a token


def blank(name: str, d_model: int = 4, **options: Any) -> Any:
    """A mixer with all weights zero."""
    cls: Any = BACKBONES.get(name)
    mixer = cls(make_options(cls, options), Spec(d_model, n_layers=1, tokens=("state",), max_length=30))
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.zero_()
    return mixer.requires_grad_(False).eval()


def random_marks(seed: int = 0, share: float = 0.5) -> Tensor:
    """(LENGTH,) of zeros and ones; the first is zero."""
    marks = (torch.rand(LENGTH, generator=torch.Generator().manual_seed(seed)) < share).long()
    marks[0] = 0
    return marks


def counting_tokens(marks: Tensor) -> Tensor:
    """Marks (length,) to tokens (1, length, 4)."""
    x = torch.zeros(1, len(marks), 4)
    x[..., ONE], x[0, :, MARK], x[0, 0, START] = 1, marks, 1
    return x


def start_of(modulus: int) -> Tensor:
    """The class 0 among ``modulus``: 1, and -1 for the others."""
    return torch.cat((torch.ones(1), -torch.ones(modulus - 1)))


def cycle(modulus: int) -> Tensor:
    """The permutation that takes each class to the next."""
    return torch.eye(modulus).roll(1, 0)


def counter(name: str, modulus: int) -> Any:
    """A gru, lstm or slstm whose largest output is the number of marks modulo ``modulus``.

    The state is 1 for the class and -1 for the others. A mark replaces it by tanh(BIG · the next class), the start by
    class 0. Other tokens leave it alone. A state that turns like this is not linear in the state before.
    """
    own, opens = slice(0, modulus), torch.tensor([0.0, 1.0, 1.0, 0.0])  # a mark or a start
    if name == "slstm":
        mixer = blank(name, n_heads=1, d_conv=1)
        bias = mixer.bias.view(4, 4)
        mixer.conv.conv.weight.fill_(1)
        for gate, weight, start in ((0, 2 * BIG, -BIG), (1, -4 * BIG, BIG)):  # input and forget gate, after a SiLU
            mixer.inputs[gate, 0] = weight * opens[:, None]
            bias[gate] = start
        mixer.inputs[2, 0, START, own] = BIG * start_of(modulus)
        mixer.recurrent[2, 0, own, own] = BIG * cycle(modulus).T
        bias[3], mixer.norm[:] = BIG, 1
        return mixer
    mixer = blank(name)
    rnn, size = mixer.rnn, 4
    gates = {"gru": (("r", 0.0, BIG), ("z", -2 * BIG, BIG)), "lstm": (("i", 2 * BIG, -BIG), ("f", -2 * BIG, BIG))}[name]
    for place, (_, weight, bias) in enumerate(gates):
        rnn.weight_ih_l0[place * size : (place + 1) * size] = weight * opens
        rnn.bias_ih_l0[place * size : (place + 1) * size] = bias
    written = slice(2 * size, 2 * size + modulus)  # n of the GRU, g of the LSTM
    rnn.weight_ih_l0[written, START] = BIG * start_of(modulus)
    rnn.weight_hh_l0[written, own] = BIG * cycle(modulus)
    if name == "lstm":
        rnn.bias_ih_l0[3 * size :] = BIG
    mixer.out_proj.weight.copy_(torch.eye(4))
    return mixer


def delta_signs(name: str, negative: bool) -> Any:
    """A deltanet or gated_deltanet: 1 at the start, times 1 - rate at each mark, where the rate is the largest.

    The key is always the same, and only the start has a value. The sign of output 0 is that of the state.
    """
    mixer = blank(name, n_heads=1, d_conv=1, expand_v=1, negative=negative)
    q, k, v = mixer.qkv_proj.weight.split(mixer.split)
    q[0, ONE] = k[0, ONE] = v[0, START] = 1_000.0
    mixer.rate_proj.weight.copy_(torch.tensor([[-100.0, 200.0, 200.0, 0.0]]))
    mixer.conv.conv.weight.fill_(1)
    mixer.norm.weight.fill_(1)
    mixer.out_proj.weight.copy_(torch.eye(4))
    if name == "gated_deltanet":
        mixer.time_step.dt_bias.fill_(-200)  # a decay of 1
        mixer.gate_proj.weight[:, ONE] = 1
    return mixer


def mamba_signs(eigenvalues: str) -> Any:
    """A mamba whose state is 1 at the start. At a mark exp(dt A) is 0, else 1. Output 0 has the state's sign."""
    mixer = blank("mamba", d_state=1, d_conv=1, expand=1, dt_rank=1, eigenvalues=eigenvalues)
    block = mixer.block
    to_u, to_gate = block.in_proj.weight.chunk(2)
    to_u.copy_(torch.eye(4))
    to_gate[:, ONE] = 1
    block.conv1d.weight.fill_(1)
    dt, B, C = block.x_proj.weight
    dt[MARK] = dt[START] = B[START] = C[ONE] = 1
    block.dt_proj.weight.fill_(400)
    block.dt_proj.bias.fill_(-100)
    block.out_proj.weight.copy_(torch.eye(4))
    return mixer


def delta_rotation() -> tuple[Any, Tensor]:
    """A deltanet with two reflections a mark, which rotate by 120 degrees, and what makes tokens of marks.

    Keys are not negative, because they pass a SiLU: at 15 and 75 degrees. Both heads do the same, and read the
    coordinates of the state, (cos, sin) of 120 degrees times the number of marks. A mark is two tokens, (1, 0, 0, 0)
    and (0, 1, 0, 0).
    """
    mixer = blank("deltanet", n_heads=2, d_conv=1, negative=True)
    q, k, v = mixer.qkv_proj.weight.split(mixer.split)
    for head in range(2):
        rows = slice(2 * head, 2 * head + 2)
        for token, degrees in ((0, 15), (1, 75), (START, 0)):
            k[rows, token] = 1_000 * torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])
        q[2 * head + head, :] = 1_000
        v[2 * head, START] = 1_000
        mixer.rate_proj.weight[head] = torch.tensor([100.0, 100.0, 0.0, -100.0])
    mixer.conv.conv.weight.fill_(1)
    mixer.norm.weight.fill_(1)
    mixer.out_proj.weight.copy_(torch.eye(4))
    return mixer, torch.eye(4)


def keeper(name: str) -> Any:
    """A linear recurrence that writes at the start and then decays by exactly 1. Output 0 reads."""
    if name == "mamba":
        return mamba_signs("positive")
    if name.endswith("deltanet"):
        return delta_signs(name, negative=False)
    if name == "gla":
        mixer = blank(name, n_heads=1, shrink_k=1, rank=1)
        q, k, v, _ = mixer.in_proj.weight.split(mixer.split)
        q[:, ONE] = k[:, START] = v[:, START] = 1
        mixer.decay_proj.bias.fill_(2 * BIG)
        mixer.gate_proj.weight[:, ONE] = mixer.norm.weight[:] = 1
    elif name == "mingru":
        mixer = blank(name)
        mixer.in_proj.bias[4:] = -2 * BIG
        mixer.in_proj.weight[4:, START] = 4 * BIG
        mixer.in_proj.weight[:4, START] = 1
    else:
        mixer = blank(name, d_conv=1)
        mixer.x_proj.weight[:, START] = mixer.gate_proj.weight[:, ONE] = mixer.conv1d.weight[:] = 1
        mixer.gates_bias[:] = -2 * BIG
        mixer.gates[0] = 4 * BIG * torch.eye(4).repeat(1, 2)
        mixer.decay.fill_(10)
    mixer.out_proj.weight.copy_(torch.eye(4))
    return mixer
