"""Our backbones equal other implementations of the literature with the same weights."""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor, nn

from backbench.backbones.build import build
from backbench.backbones.contract import Spec
from backbench.backbones.mixers.mamba import MambaBlock

os.environ.setdefault("HF_HUB_OFFLINE", "1")
TOLERANCE = 1e-5
D = 32


def outputs_and_gradients(function: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The output, the input's gradient and the parameters', under a fixed random weighting of the output."""
    x = x.clone().requires_grad_()
    y = function(x)
    y = y[0] if isinstance(y, tuple) else y
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(3))
    (y * weight).mean().backward()
    grads = {name: p.grad for name, p in function.named_parameters() if p.grad is not None}
    assert x.grad is not None
    return y.detach(), x.grad, grads


def assert_close(ours: Tensor, theirs: Tensor, what: str) -> None:
    error = float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-3))
    assert error <= TOLERANCE, f"{what}: relative error {error:.1e}"


def mamba_block(**sizes: int) -> MambaBlock:
    torch.manual_seed(0)
    block = MambaBlock(D, sizes.get("d_state", 16), sizes.get("d_conv", 4), sizes.get("expand", 2), 0, "auto")
    with torch.no_grad():  # weights away from their start, so that every one of them matters
        for parameter in block.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return block


@pytest.mark.parametrize("sizes", [{}, {"d_state": 8, "d_conv": 3, "expand": 1}], ids=str)
@pytest.mark.parametrize("peer", ["mambapy", "transformers"])
def test_mamba_equals_other_implementations(peer: str, sizes: dict[str, int]) -> None:
    ours = mamba_block(**sizes)
    state, conv, expand = sizes.get("d_state", 16), sizes.get("d_conv", 4), sizes.get("expand", 2)
    theirs: nn.Module
    if peer == "mambapy":
        from mambapy.mamba import MambaBlock as Peer
        from mambapy.mamba import MambaConfig

        theirs = Peer(MambaConfig(d_model=D, n_layers=1, d_state=state, d_conv=conv, expand_factor=expand))
    else:
        from transformers import MambaConfig as HFConfig
        from transformers.models.mamba.modeling_mamba import MambaMixer

        config = HFConfig(
            hidden_size=D,
            state_size=state,
            conv_kernel=conv,
            expand=expand,
            intermediate_size=expand * D,
            num_hidden_layers=1,
            use_bias=False,
            use_conv_bias=True,
        )
        theirs = MambaMixer(config, layer_idx=0).eval()
    theirs.load_state_dict(ours.state_dict())  # the names are the same, and strict
    x = torch.randn(3, 17, D, generator=torch.Generator().manual_seed(1))
    y, dx, grads = outputs_and_gradients(ours, x)
    y2, dx2, grads2 = outputs_and_gradients(theirs, x)
    assert_close(y, y2, "output")
    assert_close(dx, dx2, "gradient of the input")
    assert grads.keys() == grads2.keys() == dict(ours.named_parameters()).keys()
    for name in grads:
        assert_close(grads[name], grads2[name], f"gradient of {name}")


@pytest.mark.parametrize(
    ("activation", "theirs_activation", "heads"),
    [("relu", "relu", 1), ("gelu", "gelu", 4), ("gelu_tanh", "gelu_new", 2)],
)
def test_transformer_equals_gpt2_without_positions(activation: str, theirs_activation: str, heads: int) -> None:
    from transformers import GPT2Config, GPT2Model

    config = GPT2Config(
        vocab_size=1,
        n_positions=32,
        n_embd=D,
        n_layer=3,
        n_head=heads,
        activation_function=theirs_activation,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    theirs = GPT2Model(config).eval()
    torch.manual_seed(0)
    options = {"n_heads": heads, "activation": activation}
    ours = build("transformer", options, Spec(d_model=D, n_layers=3, max_length=32)).eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        theirs.wpe.weight.zero_()
    names = {"norm": "ln_f"}
    for i in range(3):
        for mine, peer in (
            ("norm1", "ln_1"),
            ("norm2", "ln_2"),
            ("mixer.qkv_proj", "attn.c_attn"),
            ("mixer.out_proj", "attn.c_proj"),
            ("ffn.up", "mlp.c_fc"),
            ("ffn.down", "mlp.c_proj"),
        ):
            names[f"layers.{i}.{mine}"] = f"h.{i}.{peer}"
    with torch.no_grad():
        for mine, peer in names.items():
            source, target = ours.get_submodule(mine), theirs.get_submodule(peer)
            for part in ("weight", "bias"):
                value = getattr(source, part)
                # GPT-2's Conv1D stores a linear layer's weight transposed.
                getattr(target, part).copy_(value.t() if value.dim() == 2 else value)

    class Peer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = theirs

        def forward(self, x: Tensor) -> Tensor:
            return self.model(inputs_embeds=x, use_cache=False).last_hidden_state

    x = torch.randn(3, 17, D, generator=torch.Generator().manual_seed(1))
    y, dx, grads = outputs_and_gradients(ours, x)
    y2, dx2, grads2 = outputs_and_gradients(Peer(), x)
    assert_close(y, y2, "output")
    assert_close(dx, dx2, "gradient of the input")
    assert len(grads) == 2 * len(names) == len(list(ours.parameters()))
    for mine, peer in names.items():
        for part in ("weight", "bias"):
            theirs_grad = grads2[f"model.{peer}.{part}"]
            theirs_grad = theirs_grad.t() if theirs_grad.dim() == 2 else theirs_grad
            assert_close(grads[f"{mine}.{part}"], theirs_grad, f"gradient of {mine}.{part}")
