"""GLoMa's local branch sees exactly its window, whatever the variant and the length."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from backbench.backbones.build import build
from backbench.backbones.contract import Spec
from backbench.backbones.mixers.gloma import GLoMa
from backbench.backbones.mixers.identity import Identity
from backbench.backbones.mixers.mamba import Mamba
from backbench.backbones.mixers.mlp import StepMLP
from backbench.backbones.options import make_options
from backbench.errors import UserError

SPEC = Spec(d_model=8, n_layers=1, max_length=30)
VARIANTS: list[dict[str, Any]] = [
    {},
    {"window": 3},
    {"local_d_conv": 1},
    {"window": 1},
    {"window_of": "scan"},
    {"window_of": "scan", "window": 1},
    {"local": "blocks"},
    {"local": "blocks", "window": 1, "fusion": "gated"},
    {"share_weights": True, "fusion": "concat"},
    {"windows": (3,), "window": 1},
    {"branches": "local"},
    {"branches": "local", "local": "blocks"},
]


def mixer(**options: Any) -> GLoMa:
    """A mixer with weights so large that what a token sees shows in float64."""
    torch.manual_seed(0)
    made = GLoMa(make_options(GLoMa, options), SPEC).double()
    made.initialise(1.0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def seen(function: Any, length: int) -> Tensor:
    """(length, length), bool: whether output t changes with input s."""
    x = torch.randn(1, length, SPEC.d_model, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    jacobian = torch.autograd.functional.jacobian(lambda v: function(v).sum((0, 2)), x)
    return jacobian.abs().sum((1, 3)) > 1e-10


def expected(options: dict[str, Any], length: int) -> Tensor:
    """As documented: the window ends at each token, or is the token's block."""
    window = 3 * options.get("windows", (options.get("window", 2),))[0]
    reach = window + (options.get("local_d_conv", 4) - 1 if options.get("window_of") == "scan" else 0)
    t, s = torch.arange(length)[:, None], torch.arange(length)
    if options.get("local") == "blocks":
        return (s <= t) & (s // window == t // window)
    return (s <= t) & (s > t - reach)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_local_branch_sees_exactly_its_window(options: dict[str, Any]) -> None:
    assert torch.equal(seen(mixer(**options).local, 20), expected(options, 20))


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_mixer_sees_everything_before_and_nothing_after(options: dict[str, Any]) -> None:
    everything = torch.ones(14, 14).tril().bool()
    assert torch.equal(seen(mixer(**options), 14), expected(options, 14) if "branches" in options else everything)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@torch.no_grad()
def test_shorter_inputs_give_a_prefix_of_the_outputs(options: dict[str, Any]) -> None:
    """Acting contexts have 2, 5, 8, ... tokens: each length is a prefix of the longest."""
    made = mixer(**options)
    x = torch.randn(2, 25, SPEC.d_model, dtype=torch.float64)
    y = made(x)
    for length in range(1, 26):
        torch.testing.assert_close(made(x[:, :length]), y[:, :length], atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@torch.no_grad()
def test_local_branch_is_a_mamba_on_every_window(options: dict[str, Any]) -> None:
    """Scanned window by window from zero, with the plain reference, it gives the same."""
    made, slow = mixer(**options), mixer(**options, kernels="reference")
    x = torch.randn(2, 19, SPEC.d_model, dtype=torch.float64)
    torch.testing.assert_close(made.local(x), slow.local(x), atol=1e-12, rtol=1e-12)


def test_a_window_counts_steps_however_many_tokens_they_have() -> None:
    """And a convolution is shorter than its window."""
    for tokens in (("state",), ("state", "action"), ("return", "state", "action")):
        spec = Spec(d_model=8, n_layers=1, max_length=10 * len(tokens), tokens=tokens)
        for window in (1, 2):
            torch.manual_seed(0)
            made = GLoMa(make_options(GLoMa, {"window": window}), spec).double()
            t, s = torch.arange(12)[:, None], torch.arange(12)
            assert torch.equal(seen(made.local, 12), (s <= t) & (s > t - window * len(tokens)))


@torch.no_grad()
def test_a_window_without_convolution_is_a_mamba_run_on_the_window_alone() -> None:
    made = mixer(local_d_conv=1)
    x = torch.randn(1, 15, SPEC.d_model, dtype=torch.float64)
    y = made.local(x)
    assert made.local_branch is not None
    for t in range(15):
        alone = made.local_branch(x[:, max(0, t - 5) : t + 1])
        torch.testing.assert_close(y[:, t], alone[:, -1], atol=1e-12, rtol=1e-12)


@torch.no_grad()
def test_fusions_follow_their_formulas() -> None:
    x = torch.randn(1, 7, SPEC.d_model, dtype=torch.float64)
    for fusion in ("sum", "gated", "concat"):
        made = mixer(fusion=fusion)
        assert made.global_branch is not None
        far, near = made.global_branch(x), made.local(x)
        if fusion == "sum":
            want = far + near
        else:
            assert made.fusion is not None
            gate = torch.sigmoid(made.fusion(x)) if fusion == "gated" else torch.zeros(())
            want = made.fusion(torch.cat((far, near), -1)) if fusion == "concat" else gate * far + (1 - gate) * near
        torch.testing.assert_close(made(x), want)


@torch.no_grad()
def test_one_branch_alone_is_that_branch() -> None:
    x = torch.randn(2, 14, SPEC.d_model, dtype=torch.float64)
    both, far, near = mixer(), mixer(branches="global"), mixer(branches="local")
    far.load_state_dict({name: value for name, value in both.state_dict().items() if name.startswith("global")})
    near.load_state_dict({name: value for name, value in both.state_dict().items() if name.startswith("local")})
    torch.testing.assert_close(far(x) + near(x), both(x))
    mamba = Mamba(make_options(Mamba, {}), SPEC).double()
    mamba.load_state_dict({name.replace("global_branch", "block"): one for name, one in far.state_dict().items()})
    torch.testing.assert_close(far(x), mamba(x))


def test_one_branch_of_twice_the_width_is_as_large_as_both() -> None:
    def size(**options: Any) -> int:
        return sum(one.numel() for one in mixer(**options).parameters())

    assert size(branches="global", expand=4, local_d_conv=1) == 2 * size(branches="global")
    assert size(branches="global", expand=4) == size(branches="local", expand=4) == size()


def test_each_layer_may_have_its_window() -> None:
    spec = replace(SPEC, n_layers=2)
    made = [GLoMa(make_options(GLoMa, {"windows": (1, 4)}), replace(spec, layer=layer)).window for layer in (0, 1)]
    assert made == [3, 12]
    with pytest.raises(UserError, match=r"windows=\[1, 4\] has 2 entries for 1 layers"):
        GLoMa(make_options(GLoMa, {"windows": (1, 4)}), SPEC)


def test_controls_see_their_step_or_their_token_only() -> None:
    length = 8
    t, s = torch.arange(length)[:, None], torch.arange(length)
    step = StepMLP(StepMLP.Options(), SPEC).double()
    assert torch.equal(seen(step, length), (s <= t) & (s // 3 == t // 3))
    assert torch.equal(seen(Identity(Identity.Options(), SPEC), length), torch.eye(length).bool())


def test_a_stack_of_the_present_still_sees_the_present_only() -> None:
    """Layers widen the reach of overlapping windows, but not of windows that tile."""
    torch.manual_seed(0)
    model = build("mlp", None, Spec(d_model=8, n_layers=3, max_length=12)).double().eval()
    sees = seen(model, 9)
    assert not sees[3:, :3].any()
