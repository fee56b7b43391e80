"""Layers of flash-linear-attention against our mixers, on a CPU.

Its kernels are written in Triton, which needs a GPU. So fla's own readable forms of them stand in, and PyTorch's
convolution. What is compared is all around them: projections, gates, scales, norms and their order.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbench.backbones.mixers.retnet import BASE
from backbench.benchmarks.speed.models import Arranged
from references.comparison import LAYER, Comparison, D, Package, Running, our_mixer, sides_of_modules
from references.recurrences import FLA_REQUIREMENTS, heads_first, naive

PACKAGE = Package("flash-linear-attention", f"{FLA_REQUIREMENTS} triton", needs="triton")


def layer(module: str, name: str, **settings: Any) -> Any:
    """The layer ``name`` of ``fla.layers.<module>`` with ``settings``, its kernels replaced."""
    found = importlib.import_module(f"fla.layers.{module}")
    for kernel, stand_in in stand_ins().items():
        if hasattr(found, kernel):
            setattr(found, kernel, stand_in)
    modules = importlib.import_module("fla.modules")
    modules.ShortConvolution.forward = convolution
    modules.RMSNorm.forward = lambda self, x: rms(x, self.weight, self.eps)
    modules.FusedRMSNormGated.forward = lambda self, x, g: rms(x, self.weight, self.eps) * F.silu(g)
    return getattr(found, name)(hidden_size=D, layer_idx=0, **settings)


def stand_ins() -> dict[str, Callable[..., Any]]:
    """Kernel to what computes the same without Triton. Their answers are outputs and, where asked for, a state."""
    of = importlib.import_module
    return {
        "chunk_gla": lambda q, k, v, g, **_: naive("gla", "naive_recurrent_gla")(q, k, v, g),
        "chunk_linear_attn": lambda q, k, v, normalize, **_: naive("linear_attn", "naive_recurrent_linear_attn")(
            q, k, v, normalize=normalize
        ),
        "chunk_retention": lambda q, k, v, **_: by_head(naive("retention", "naive_retention"), q, k, v),
        "chunk_delta_rule": lambda q, k, v, beta, **_: by_head(
            naive("delta_rule", "delta_rule_recurrence"), unit(q), unit(k), v, beta
        ),
        "chunk_rwkv7": lambda r, w, k, v, a, b, **_: by_head(
            naive("generalized_delta_rule/dplr", "dplr_recurrence"), r * r.shape[-1] ** 0.5, k, v, a, b, w
        ),
        "swish": F.silu,
        "rms_norm_linear": lambda x, weight, bias, linear, linear_bias: F.linear(rms(x, weight), linear, linear_bias),
        "token_shift": lambda x, *_, **__: (of("fla.modules.token_shift").token_shift_ref(x), None),
        "fused_addcmul_rwkv7": of("fla.ops.rwkv7.fused_addcmul").torch_addcmul_rwkv7,
        "fused_k_rwkv7": of("fla.ops.rwkv7.fused_k_update").k_update_ref,
        "gate_output_correction": of("fla.ops.rwkv7.gate_output_correction").gate_output_correction_ref,
    }


def by_head(function: Callable[..., Any], *inputs: Tensor) -> tuple[Tensor, None]:
    return heads_first(function, *inputs), None


def unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt()


def rms(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return importlib.import_module("fla.modules.norm.layernorm").rms_norm_ref(x, weight, None, eps=eps)  # type: ignore[no-any-return]


def convolution(self: Any, x: Tensor, **_: Any) -> tuple[Tensor, None]:
    """Stands in for ``ShortConvolution.forward``: it is PyTorch's layer, padded on both sides, and an activation."""
    y = nn.Conv1d.forward(self, x.mT)[..., : x.shape[1]].mT
    return F.silu(y) if self.activation else y, None


def part(width: list[int], index: int) -> Callable[[Tensor], Tensor]:
    """The rows ``index`` of a matrix that is split into parts."""
    return lambda weight: torch.split(weight, width)[index]


def compared(
    backbone: str, name: str, theirs: Callable[[Any], nn.Module], arranged: Callable[[Any], Mapping[str, Arranged]],
    unlike: tuple[str, ...] = (), **facts: Any,
) -> Comparison:  # fmt: skip
    """A row. Our parameters ``unlike`` have no counterpart and are zero."""

    def sides() -> Any:
        ours = our_mixer(backbone)
        with torch.no_grad():
            for parameter in unlike:
                ours.get_parameter(parameter).zero_()
        made = theirs(ours)
        named = {f"module.{parameter}": how for parameter, how in arranged(ours).items()}
        return sides_of_modules(ours, Running(made, lambda x: made(x)[0]), named, unlike=unlike)

    return Comparison(backbone, PACKAGE, name, LAYER, sides, **facts)


def projections(matrix: nn.Parameter, sizes: list[int], names: str) -> dict[str, Arranged]:
    """Their projections of one letter each, which are one matrix in ours."""
    return {f"{name}_proj.weight": ((matrix,), part(sizes, i)) for i, name in enumerate(names)}


def gla(ours: Any) -> dict[str, Arranged]:
    made = projections(ours.in_proj.weight, ours.split, "qkv")
    made["gk_proj.0.weight"] = ((ours.in_proj.weight,), part(ours.split, 3))
    made |= {f"gk_proj.1.{name}": ((parameter,),) for name, parameter in ours.decay_proj.named_parameters()}
    made |= {"g_proj.weight": ((ours.gate_proj.weight,),), "g_norm_swish_gate.weight": ((ours.norm.weight,),)}
    return {**made, "o_proj.weight": ((ours.out_proj.weight,),)}


def hgrn2(ours: Any) -> dict[str, Arranged]:
    made = projections(ours.in_proj.weight, [D] * 3, "qfi")
    return {**made, "g_norm.weight": ((ours.norm.weight,),), "o_proj.weight": ((ours.out_proj.weight,),)}


def state_expansion(ours: Any) -> Any:
    """fla divides queries by sqrt(d_k). The norm takes that away but for its constant, which is adapted in ours."""
    heads = ours.options.n_heads
    ours.norm.eps *= D // heads
    return layer("hgrn2", "HGRN2Attention", num_heads=heads, expand_ratio=None)


def deltanet(ours: Any) -> dict[str, Arranged]:
    made = projections(ours.qkv_proj.weight, ours.split, "qkv")
    made |= {f"{name}_conv1d.weight": ((ours.conv.conv.weight,), part(ours.split, i)) for i, name in enumerate("qkv")}
    made |= {"b_proj.weight": ((ours.rate_proj.weight,),), "o_norm.weight": ((ours.norm.weight,),)}
    return {**made, "o_proj.weight": ((ours.out_proj.weight,),)}


def linear_attention(ours: Any) -> dict[str, Arranged]:
    return {**projections(ours.qkv_proj.weight, [D] * 3, "qkv"), "o_proj.weight": ((ours.out_proj.weight,),)}


def retnet(ours: Any) -> dict[str, Arranged]:
    made = projections(ours.qkv_proj.weight, ours.split, "qkv")
    made |= {"g_proj.weight": ((ours.gate_proj.weight,),), "g_norm_swish_gate.weight": ((ours.norm.weight,),)}
    return {**made, "o_proj.weight": ((ours.out_proj.weight,),)}


def retention(ours: Any) -> Any:
    """fla takes RoFormer's angles, ours are the paper's: they are set here."""
    made = layer("multiscale_retention", "MultiScaleRetention", num_heads=ours.options.n_heads)
    made.rotary.forward = lambda q, k, **_: tuple(turned(x, made.rotary.dim) for x in (q, k))
    return made


def turned(x: Tensor, width: int) -> Tensor:
    rates = BASE ** -torch.linspace(0, 1, width // 2, dtype=torch.float64)
    angles = torch.arange(x.shape[1]).unsqueeze(-1) * rates
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    return importlib.import_module("fla.modules.rotary.ops").rotary_embedding_ref(x, cos, sin)  # type: ignore[no-any-return]


def rwkv7(ours: Any) -> dict[str, Arranged]:
    made: dict[str, Arranged] = {}
    for i, name in enumerate("rwkvag"):
        made[f"x_{name}"] = ((ours.mixture,), lambda mixture, i=i: mixture[i].view(1, 1, -1))
    alike = {
        "k_k": ours.removed, "k_a": ours.rate_of_key, "g_norm.weight": ours.norm.weight, "g_norm.bias": ours.norm.bias,
        "w_lora.lora.2.bias": ours.decay_bias, "a_lora.lora.2.bias": ours.rate_bias,
    }  # fmt: skip
    for letter, name in {"w": "decay", "a": "rate", "g": "gate"}.items():
        for number, way in ((0, "down"), (2, "up")):
            alike[f"{letter}_lora.lora.{number}.weight"] = getattr(ours, f"{name}_{way}").weight
    for letter, module in {"r": ours.r_proj, "k": ours.k_proj, "v": ours.v_proj, "o": ours.out_proj}.items():
        alike[f"{letter}_proj.weight"] = module.weight
    made |= {name: ((parameter,),) for name, parameter in alike.items()}
    made["r_k"] = ((ours.bonus,), ours.heads)
    return made


def time_mixing(ours: Any) -> Any:
    rank, heads = ours.options.rank, ours.options.n_heads
    ranks = dict.fromkeys(("decay_low_rank_dim", "gate_low_rank_dim", "a_low_rank_dim"), rank)
    eps = ours.norm.eps * heads / D  # which it multiplies by the width of a head
    return layer("rwkv7", "RWKV7Attention", head_dim=D // heads, num_hidden_layers=2, norm_eps=eps, **ranks)


def delta(ours: Any) -> Any:
    return layer("delta_net", "DeltaNet", num_heads=ours.options.n_heads)


def gated(ours: Any) -> Any:
    o = ours.options
    return layer("gla", "GatedLinearAttention", num_heads=o.n_heads, gate_low_rank_dim=o.rank)


def summed(ours: Any) -> Any:
    settings = {"feature_map": "elu", "output_norm": "identity", "do_feature_map_norm": True}
    return layer("linear_attn", "LinearAttention", num_heads=ours.options.n_heads, **settings)


BIASES = ("qkv_proj.bias", "out_proj.bias")
FLA_LAYERS = (
    compared("deltanet", "DeltaNet", delta, deltanet),
    compared("gla", "GatedLinearAttention", gated, gla),
    compared("hgrn2", "HGRN2Attention", state_expansion, hgrn2),
    # fla adds 1e-10 to the normaliser, ours 1e-6 as the authors' code.
    compared("linear_attention", "LinearAttention", summed, linear_attention, BIASES, allowed=1e-5),
    compared("retnet", "MultiScaleRetention", retention, retnet),
    compared("rwkv7", "RWKV7Attention", time_mixing, rwkv7),
)
