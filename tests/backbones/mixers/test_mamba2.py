"""Mamba-2 equals transformers' in values and gradients with the same weights."""

from __future__ import annotations

import os

import torch
from mixer_references import D, perturbed

from backbench.backbones.contract import Spec
from backbench.backbones.mixers.mamba2 import Mamba2, Mamba2Options

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def test_mamba2_equals_transformers() -> None:
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    config = Mamba2Config(
        hidden_size=D, num_heads=4, head_dim=D // 2, state_size=8, n_groups=1, expand=2, conv_kernel=4, chunk_size=16,
        use_bias=False, use_conv_bias=True, layer_norm_epsilon=1e-5, num_hidden_layers=1,
    )  # fmt: skip
    theirs, ours = Mamba2Mixer(config, layer_idx=0).eval(), perturbed(Mamba2, d_state=8).float()
    names = {"conv.conv.": "conv1d.", "time_step.": ""}

    def renamed(name: str) -> str:
        return next((new + name.removeprefix(old) for old, new in names.items() if name.startswith(old)), name)

    theirs.load_state_dict({renamed(name): value for name, value in ours.state_dict().items()})
    x = torch.randn(2, 37, D, generator=torch.Generator().manual_seed(1))
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    results = []
    for mixer in (ours, theirs):
        inputs = x.clone().requires_grad_()
        y = mixer(inputs)
        (y * weight).sum().backward()
        results.append((y.detach(), inputs.grad))
    gradients = {renamed(name): parameter.grad for name, parameter in ours.named_parameters()}
    pairs = [*zip(*results, strict=True), *((gradients[name], p.grad) for name, p in theirs.named_parameters())]
    errors = [float((a - b).abs().max() / b.abs().max()) for a, b in pairs]
    assert len(errors) == 2 + len(gradients)
    assert max(errors) <= 1e-5, errors


def test_mamba2_starts_with_decays_and_time_steps_of_its_paper() -> None:
    torch.manual_seed(0)
    mixer = Mamba2(Mamba2Options(n_heads=64), Spec(64))
    dt = torch.nn.functional.softplus(mixer.time_step.dt_bias)
    assert 1e-3 * 0.99 <= float(dt.min()) <= float(dt.max()) <= 0.1 * 1.01
    assert 1 <= float(mixer.time_step.A_log.exp().min()) <= float(mixer.time_step.A_log.exp().max()) <= 16
