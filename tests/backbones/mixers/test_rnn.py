"""GRU and LSTM against their published equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from backbench.backbones import UserError
from backbench.backbones.build import build
from backbench.backbones.contract import Spec
from backbench.backbones.mixers.rnn import GRU, LSTM, RNN, RNNOptions

SPEC = Spec(d_model=6, n_layers=1, dropout=0.0, tokens=("state",), max_length=8)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def gru(x: np.ndarray, w: dict[str, np.ndarray]) -> np.ndarray:
    """The hidden states, (length, hidden): arXiv:1406.1078, with the reset gate after the product, as in torch."""
    h, out = np.zeros(w["hh"].shape[1]), []
    for x_t in x:
        (ri, zi, ni), (rh, zh, nh) = (np.split(w[a] @ v + w[b], 3) for a, v, b in (("ih", x_t, "bi"), ("hh", h, "bh")))
        r, z = sigmoid(ri + rh), sigmoid(zi + zh)
        h = (1 - z) * np.tanh(ni + r * nh) + z * h
        out.append(h)
    return np.stack(out)


def lstm(x: np.ndarray, w: dict[str, np.ndarray]) -> np.ndarray:
    """The hidden states, (length, hidden), of Hochreiter and Schmidhuber's cell with the forget gate."""
    h = c = np.zeros(w["hh"].shape[1])
    out = []
    for x_t in x:
        i, f, g, o = np.split(w["ih"] @ x_t + w["bi"] + w["hh"] @ h + w["bh"], 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        out.append(h)
    return np.stack(out)


@pytest.mark.parametrize(("kind", "equation"), [(GRU, gru), (LSTM, lstm)])
@pytest.mark.parametrize("hidden", [0, 9])
def test_it_equals_its_equations(kind: type[RNN], equation: object, hidden: int) -> None:
    torch.manual_seed(0)
    ours = kind(RNNOptions(hidden), SPEC).double()
    ours.initialise(1.0)
    x = torch.randn(2, 11, 6, dtype=torch.float64)
    names = {"ih": "weight_ih_l0", "hh": "weight_hh_l0", "bi": "bias_ih_l0", "bh": "bias_hh_l0"}
    weights = {name: getattr(ours.rnn, of).detach().numpy() for name, of in names.items()}
    w, b = ours.out_proj.weight.detach().numpy(), ours.out_proj.bias.detach().numpy()
    for row in range(2):
        expected = equation(x[row].numpy(), weights) @ w.T + b  # type: ignore[operator]
        assert np.abs(ours(x)[row].detach().numpy() - expected).max() < 1e-12
    assert ours.initial_state(3)[0].shape[-1] == (hidden or 6)


def test_forget_gates_start_open() -> None:
    model = build("lstm", None, SPEC)
    rnn = model.layers[0].mixer.rnn  # type: ignore[union-attr, index]
    bias = rnn.bias_ih_l0 + rnn.bias_hh_l0
    assert bool((bias[6:12] == 1).all())
    assert not bool((bias[:6] == 1).any())


def test_a_negative_width_is_refused() -> None:
    with pytest.raises(UserError, match="gru and lstm: hidden=-1; give 0, for d_model, or more"):
        RNNOptions(-1)
