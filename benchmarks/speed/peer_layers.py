"""Other packages' layers in our residual stack: only the mixer differs, so that its cost alone is compared."""

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from backbench.agents.agent import Agent
from backbench.backbones.contract import Mixer, Spec, State
from backbench.backbones.mixers.deltanet import GatedDeltaNet
from backbench.backbones.mixers.mamba import Mamba
from backbench.backbones.mixers.mamba2 import Mamba2
from backbench.backbones.mixers.rglru import RGLRU
from backbench.backbones.mixers.transformer import TransformerPP
from backbench.benchmarks.speed.models import Arranged, Weight, same_names


class LayerPeer(Mixer):
    """A package's layer, ``block``, in the place of our mixer ``like``, with its options."""

    like: ClassVar[type[Mixer]]
    block: Any

    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        ours = self._ours()
        self.ffn_activation, self.norm_kind = ours.ffn_activation, ours.norm_kind

    def __init_subclass__(cls) -> None:
        cls.Options = cls.like.Options

    def _ours(self) -> Any:
        """Our mixer without its weights' memory."""
        with torch.device("meta"):
            return self.like(self.options, self.spec)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)  # type: ignore[no-any-return]

    def flops(self, length: int) -> float | None:
        return self._ours().flops(length)  # type: ignore[no-any-return]


def mamba_shape(options: Any, spec: Spec) -> dict[str, Any]:
    """What mambapy and mamba-ssm call alike. The name of ``expand`` differs."""
    dt_rank = options.dt_rank or "auto"
    return {"d_model": spec.d_model, "d_state": options.d_state, "d_conv": options.d_conv, "dt_rank": dt_rank}


class MambapyMixer(LayerPeer):
    """mambapy's block, with its parallel scan."""

    like: ClassVar[type[Mixer]] = Mamba

    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        package = importlib.import_module("mambapy.mamba")
        config = package.MambaConfig(n_layers=1, expand_factor=options.expand, **mamba_shape(options, spec))
        self.block = package.MambaBlock(config)

    def initial_state(self, batch: int, device: Any = None, dtype: torch.dtype | None = None) -> State:
        """The scan's state and the convolution's last inputs."""
        channels, d_state = self.block.A_log.shape
        zeros = partial(self.block.A_log.new_zeros, device=device, dtype=dtype)
        return zeros(batch, channels, d_state), zeros(batch, channels, self.options.d_conv - 1)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        return self.block.step(x_t, state)  # type: ignore[no-any-return]


class MambaSSMMixer(LayerPeer):
    """mamba-ssm's block, with its fused CUDA kernels. Its step is not used: recurrent acting recomputes a window."""

    like: ClassVar[type[Mixer]] = Mamba

    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        block = importlib.import_module("mamba_ssm.modules.mamba_simple").Mamba
        self.block = block(expand=options.expand, **mamba_shape(options, spec))


def of_transformers(model: str, layer: str, config: str, **settings: Any) -> tuple[Any, Any]:
    """A layer of transformers' ``model`` with its settings, and its module."""
    package = importlib.import_module("transformers")
    package.logging.set_verbosity_error()
    module = importlib.import_module(f"transformers.models.{model}.modeling_{model}")
    made = getattr(package, config)(num_hidden_layers=1, attn_implementation="sdpa", **settings)
    return getattr(module, layer)(made, 0), module


class Mamba2Peer(LayerPeer):
    """transformers' Mamba2Mixer, its path without CUDA."""

    like: ClassVar[type[Mixer]] = Mamba2

    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        self.block, _ = of_transformers(
            "mamba2", "Mamba2Mixer", "Mamba2Config", hidden_size=spec.d_model, num_heads=options.n_heads,
            head_dim=options.expand * spec.d_model // options.n_heads, state_size=options.d_state, n_groups=1,
            expand=options.expand, conv_kernel=options.d_conv, use_bias=False, use_conv_bias=True, chunk_size=64,
        )  # fmt: skip


class GatedDeltaNetPeer(LayerPeer):
    """transformers' Qwen3NextGatedDeltaNet, its path without CUDA."""

    like: ClassVar[type[Mixer]] = GatedDeltaNet

    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        heads, d = options.n_heads, spec.d_model
        self.block, _ = of_transformers(
            "qwen3_next", "Qwen3NextGatedDeltaNet", "Qwen3NextConfig", hidden_size=d, linear_num_value_heads=heads,
            linear_num_key_heads=heads, linear_key_head_dim=d // heads, layer_types=["linear_attention"],
            linear_value_head_dim=options.expand_v * d // heads, linear_conv_kernel_dim=options.d_conv,
            rms_norm_eps=1e-5, hidden_act="silu",
        )  # fmt: skip


class RGLRUPeer(LayerPeer):
    """transformers' RecurrentGemmaRecurrentBlock. Positions begin at 1: it writes position 0 unscaled."""

    like: ClassVar[type[Mixer]] = RGLRU

    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        self.block, _ = of_transformers(
            "recurrent_gemma", "RecurrentGemmaRecurrentBlock", "RecurrentGemmaConfig", hidden_size=spec.d_model,
            lru_width=options.width or spec.d_model, num_attention_heads=options.n_blocks,
            conv1d_width=options.d_conv, hidden_activation="gelu_pytorch_tanh",
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        positions = torch.arange(1, x.shape[1] + 1, device=x.device).expand(len(x), -1)
        return self.block(x, positions, None, use_cache=False)[0]  # type: ignore[no-any-return]


class LlamaPeer(LayerPeer):
    """transformers' LlamaAttention, with PyTorch's fused attention."""

    like: ClassVar[type[Mixer]] = TransformerPP

    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        self.block, module = of_transformers(
            "llama", "LlamaAttention", "LlamaConfig", hidden_size=spec.d_model, num_attention_heads=options.n_heads,
            num_key_value_heads=options.kv_heads or options.n_heads, attention_dropout=spec.dropout,
        )  # fmt: skip
        self.turns = module.LlamaRotaryEmbedding(self.block.config)

    def forward(self, x: Tensor) -> Tensor:
        turns = self.turns(x, torch.arange(x.shape[1], device=x.device).unsqueeze(0))
        return self.block(x, position_embeddings=turns, attention_mask=None)[0]  # type: ignore[no-any-return]


Arrangement = Callable[[Any], dict[str, Arranged]]  # of our mixer: parameters of the peer's layer by name


def in_layers(arrangement: Arrangement) -> Callable[[nn.Module, nn.Module], list[Weight]]:
    """Pairs of parameters: those of mixers as arranged, the others by their names."""

    def pairs(ours: nn.Module, theirs: nn.Module) -> list[Weight]:
        assert isinstance(ours, Agent)
        assert isinstance(theirs, Agent)
        found = same_names(ours, theirs, but=".mixer.")
        for mine, other in zip(ours.backbone.layers, theirs.backbone.layers, strict=True):  # type: ignore[arg-type]
            made, parameters = arrangement(mine.mixer), dict(other.mixer.block.named_parameters())
            found += [Weight(f"mixer {name}", parameters.pop(name), *arranged) for name, arranged in made.items()]
            assert not parameters, f"parameters without a value: {', '.join(parameters)}"
        return found

    return pairs


def mamba2(mixer: Any) -> dict[str, Arranged]:
    """Two layers of ours have parameters of their own, which the package has in the mixer."""
    names = {"conv.conv.": "conv1d.", "time_step.": ""}

    def renamed(name: str) -> str:
        return next((new + name.removeprefix(old) for old, new in names.items() if name.startswith(old)), name)

    return {renamed(name): ((parameter,),) for name, parameter in mixer.named_parameters()}


def gated_deltanet(mixer: Any) -> dict[str, Arranged]:
    """Rows of projections are (head, part, channel), where ours are (part, head, channel)."""
    heads, split = mixer.options.n_heads, mixer.split

    def of_heads(*weights: Tensor) -> Tensor:
        return torch.cat([torch.unflatten(weight, 0, (heads, -1)) for weight in weights], 1).flatten(0, 1)

    def of_all(qkv: Tensor, gate: Tensor) -> Tensor:
        return of_heads(*torch.split(qkv, split), gate)

    alike = {"conv1d.weight": mixer.conv.conv.weight, "dt_bias": mixer.time_step.dt_bias, "norm.weight":
             mixer.norm.weight, "A_log": mixer.time_step.A_log, "out_proj.weight": mixer.out_proj.weight}  # fmt: skip
    return {
        "in_proj_qkvz.weight": ((mixer.qkv_proj.weight, mixer.gate_proj.weight), of_all),
        "in_proj_ba.weight": ((mixer.rate_proj.weight, mixer.dt_proj.weight), of_heads),
        **{name: ((parameter,),) for name, parameter in alike.items()},
    }


def rglru(mixer: Any) -> dict[str, Arranged]:
    """The two gates are one matrix in ours."""
    layers = {"linear_x": mixer.x_proj, "linear_y": mixer.gate_proj, "conv_1d": mixer.conv1d,
              "linear_out": mixer.out_proj}  # fmt: skip
    made: dict[str, Arranged] = {"rg_lru.recurrent_param": ((mixer.decay,),)}
    for name, layer in layers.items():
        made |= {f"{name}.{kind}": ((parameter,),) for kind, parameter in layer.named_parameters()}
    for half, name in enumerate(("input", "recurrent")):
        part = partial(_half, half)
        made[f"rg_lru.{name}_gate_weight"] = ((mixer.gates,), part)
        made[f"rg_lru.{name}_gate_bias"] = ((mixer.gates_bias,), part)
    return made


def _half(which: int, x: Tensor) -> Tensor:
    return x.chunk(2, -1)[which]


def transformerpp(mixer: Any) -> dict[str, Arranged]:
    """Queries, keys and values are one matrix in ours."""
    made: dict[str, Arranged] = {"o_proj.weight": ((mixer.out_proj.weight,),)}
    for index, kind in enumerate("qkv"):
        made[f"{kind}_proj.weight"] = ((mixer.qkv_proj.weight,), partial(_rows, mixer.sizes, index))
    return made


def _rows(sizes: list[int], index: int, x: Tensor) -> Tensor:
    return torch.split(x, sizes)[index]
