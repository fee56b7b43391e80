"""FLOPs equal counts by hand, or are unknown: never too low."""

from __future__ import annotations

import mixers
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from backbench.backbones import BACKBONES
from backbench.backbones.build import build
from backbench.backbones.contract import Mixer, NoOptions, Spec, estimated_flops
from backbench.backbones.flops import least, measured

D, LENGTH = 32, 30
SPEC = Spec(D, n_layers=2, max_length=LENGTH)
FFN = 2 * 8 * D * D
ATTENTION = 4 * D * (LENGTH + 1) / 2
MAMBA = 2 * (D * 4 * D + 2 * D * (2 + 32) + 2 * 2 * D + 2 * D * D) + 2 * 4 * 2 * D + 9 * 2 * D * 16


@pytest.mark.parametrize(
    ("mixer", "by_hand"),
    [
        (mixers.GRU, 2 * 3 * (D * D + D * D)),
        (mixers.LSTM, 2 * 4 * (D * D + D * D)),
        (mixers.Convolution, 2 * 4 * D * D),
        (mixers.TorchAttention, 2 * 4 * D * D + ATTENTION),
        (mixers.BareMatrix, 2 * D * D),
        ("transformer", 2 * 4 * D * D + ATTENTION),
        ("mamba", MAMBA),
        ("gloma", 2 * MAMBA + 4 * 2 * D * 16),
        ("rglru", 2 * (3 + 2) * D * D + 2 * 4 * D + 2 * D),
        ("lru", 2 * (4 + 2) * D * D + 8 * D),
        ("mingru", 2 * 3 * D * D + 2 * D),
        ("s5", 2 * (2 + 1) * D * D + 8 * D / 2),
        ("mlp", 2 * 3 * D * D),
        ("identity", 0),
    ],
    ids=str,
)
def test_flops_equal_a_count_by_hand(mixer: type[Mixer] | str, by_hand: float) -> None:
    model = build(mixer, None, SPEC)
    assert model.flops(LENGTH) == pytest.approx(2 * (FFN + by_hand), rel=0.02)
    assert type(model.flops(LENGTH)) is float


@pytest.mark.parametrize("mixer", [*BACKBONES.names(), mixers.GRU], ids=str)
def test_the_formulas_equal_what_ran(mixer: type[Mixer] | str) -> None:
    model = build(mixer, None, SPEC)
    assert measured(model, LENGTH, D) == pytest.approx(model.flops(LENGTH), rel=1e-9)


WITH_ATTENTION = {"transformer", "transformerpp"}


@pytest.mark.parametrize("name", BACKBONES.names())
def test_no_cost_but_attentions_is_quadratic_in_the_length(name: str) -> None:
    """By the formulas, and by the matrix products that PyTorch counts, among them those of a recurrence's chunks."""
    model = build(name, None, Spec(D, n_layers=1, max_length=1024)).eval()
    short, long = (model.flops(length) or 0.0 for length in (256, 1024))
    assert (long > 1.2 * short) == (name in WITH_ATTENTION)
    assert growth(model) <= 1.05  # PyTorch counts no attention on a CPU
    assert growth(mixers.HandAttention(NoOptions(), SPEC)) > 2  # but products written out


def growth(model: nn.Module) -> float:
    """How many times more FLOPs a token costs in a context of 1,024 than in one of 256."""
    counted = []
    for length in (256, 1024):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.randn(1, length, D))
        counted.append(counter.get_total_flops() / length)
    return counted[1] / max(counted[0], 1)


@pytest.mark.parametrize(
    "mixer",
    [mixers.FusedAttention, mixers.HandAttention, mixers.Twice, mixers.CumulativeMean, mixers.Fourier],
    ids=lambda cls: cls.__name__,
)
def test_work_that_no_layer_explains_makes_the_count_unknown(mixer: type[Mixer]) -> None:
    assert mixer(NoOptions(), SPEC).flops(LENGTH) is None
    assert build(mixer, None, SPEC).flops(LENGTH) is None


@pytest.mark.parametrize("mixer", [mixers.FusedAttention, mixers.HandAttention], ids=lambda cls: cls.__name__)
def test_attention_is_measured_over_the_tokens_that_it_may_see(mixer: type[Mixer]) -> None:
    assert measured(mixer(NoOptions(), SPEC), LENGTH, D) == pytest.approx(2 * 4 * D * D + ATTENTION)


def test_weights_without_a_formula_are_named_as_estimated() -> None:
    assert estimated_flops(build(mixers.BareMatrix, None, SPEC)) == ["layers.0.mixer.matrix", "layers.1.mixer.matrix"]
    assert estimated_flops(build(mixers.GRU, None, SPEC)) == []
    assert estimated_flops(build("mamba", None, SPEC)) == []


def test_a_mixer_within_a_mixer_counts_itself() -> None:
    class Hybrid(Mixer):
        def __init__(self, options: NoOptions, spec: Spec) -> None:
            super().__init__(options, spec)
            self.first, self.second = mixers.GRU(options, spec), mixers.BareMatrix(options, spec)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x))  # type: ignore[no-any-return]

    assert Hybrid(NoOptions(), SPEC).flops(LENGTH) == 12 * D * D + 2 * D * D


def test_tables_and_norms_are_no_products() -> None:
    module = nn.Sequential(nn.Embedding(100, D), nn.LayerNorm((3, D)), nn.Linear(D, D))
    assert least(module) == 2 * D * D


def test_counting_changes_neither_mode_nor_random_numbers() -> None:
    model = mixers.GRU(NoOptions(), SPEC)
    model.rnn.eval()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    model.flops(LENGTH)
    assert torch.equal(before, torch.get_rng_state())
    assert (model.training, model.rnn.training) == (True, False)
