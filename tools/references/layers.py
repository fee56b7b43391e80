"""Layers of other packages against our mixers, and their Decision Transformer against our agent.

Where ``bench speed`` measures a peer, its layer and the arrangement of its weights are used here too.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from operator import itemgetter
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from backbench.backbones.contract import Mixer
from backbench.backbones.kernels import diagonal_recurrence
from backbench.backbones.mixers.mamba import Mamba
from backbench.benchmarks.speed import peer_layers as peers
from backbench.benchmarks.speed.config import SpeedConfig
from backbench.benchmarks.speed.models import Arranged, agent, steps, windows
from backbench.benchmarks.speed.peers import PEERS
from references.comparison import (
    AGENT,
    BATCH,
    LAYER,
    LENGTH,
    RECURRENCE,
    Comparison,
    D,
    Package,
    Running,
    our_mixer,
    perturb,
    sides_of_modules,
)

TRANSFORMERS = Package("transformers", "'transformers>=5,<6'")
MAMBAPY = Package("mambapy", "mambapy==1.2.0")
XLSTM = Package("xlstm", "xlstm==2.0.6")
MINGRU = Package("minGRU-pytorch", "minGRU-pytorch==0.2.1")
LRU = Package("LRU-pytorch", "LRU-pytorch==0.1.3")
S5 = Package("s5-pytorch", "s5-pytorch==0.2.1")
GPU_KERNELS = ("fla", "mamba_ssm", "causal_conv1d")
Arrangement = Callable[[Any], Mapping[str, Arranged]]


@contextmanager
def without(*modules: str) -> Iterator[None]:
    """Where these modules are not imported anew: transformers would run their GPU kernels on the CPU too."""
    found = {name: sys.modules.pop(name, None) for name in modules}
    sys.modules.update(dict.fromkeys(modules))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name, module in found.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module


def same(mixer: nn.Module) -> dict[str, Arranged]:
    """Their parameters have the names of ours."""
    return {name: ((parameter,),) for name, parameter in mixer.named_parameters()}


def of_block(mixer: Any) -> dict[str, Arranged]:
    """As ``same``, of the block inside our mixer."""
    return same(mixer.block)


def peer_layer(
    package: Package, name: str, backbone: str, layer: type[peers.LayerPeer], arrangement: Arrangement
) -> Comparison:
    """A layer that ``bench speed`` can measure."""

    def sides() -> Any:
        ours = our_mixer(backbone)
        with without(*GPU_KERNELS):
            theirs = layer(ours.options, ours.spec).eval()
        return sides_of_modules(ours, theirs, {f"block.{name}": how for name, how in arrangement(ours).items()})

    return Comparison(backbone, package, name, LAYER, sides)


class MambaPeer(peers.LayerPeer):
    """transformers' MambaMixer, its path without CUDA."""

    like: ClassVar[type[Mixer]] = Mamba

    def __init__(self, options: Any, spec: Any) -> None:
        super().__init__(options, spec)
        self.block, _ = peers.of_transformers(
            "mamba", "MambaMixer", "MambaConfig", hidden_size=D, state_size=options.d_state, expand=options.expand,
            intermediate_size=options.expand * D, conv_kernel=options.d_conv, use_bias=False, use_conv_bias=True,
        )  # fmt: skip


def decision_transformer() -> Any:
    """Our agent and transformers' DecisionTransformerModel, as functions of the states."""
    context = steps(LENGTH)
    config = SpeedConfig(("transformer",), d_model=D, n_layers=2, context=context, device="cpu")
    peer = PEERS["DecisionTransformerModel"]
    ours, theirs = perturb(agent("transformer", {}, config, context)).eval(), peer.build({}, config, context).eval()
    names = {id(parameter): name for name, parameter in theirs.named_parameters()}
    arranged: dict[str, Arranged] = {}
    for weight in peer.weights(ours, theirs):
        arranged[f"module.{names[id(weight.theirs)]}"] = (weight.ours, weight.arranged)
    batch = windows(BATCH, context, "cpu")

    def run(policy: nn.Module) -> Any:
        given = [x.to(torch.get_default_dtype()) for x in (batch.returns_to_go, batch.actions)]
        return lambda states: policy(given[0], states, given[1], batch.timesteps)

    unlike = {f"module.model.encoder.{table}.weight" for table in ("wte", "wpe")}  # one is unused, the other zero
    unlike |= {f"module.model.predict_{what}.{part}" for what in ("state", "return") for part in ("weight", "bias")}
    made = sides_of_modules(ours, Running(theirs, run(theirs)), arranged, run(ours), unlike=unlike)
    return *made[:2], [batch.states, *made[2][1:]]


def xlstm_mlstm() -> Any:
    """xlstm's mLSTM layer. Its norm's weights are differences from 1."""
    ours, package = our_mixer("mlstm"), importlib.import_module("xlstm.blocks.mlstm.layer")
    config = package.mLSTMLayerConfig(embedding_dim=D, context_length=LENGTH, num_heads=ours.options.n_heads)
    alike = {
        "proj_up.weight": ours.in_proj.weight, "proj_down.weight": ours.out_proj.weight, "learnable_skip": ours.skip,
        "conv1d.conv.weight": ours.conv.conv.weight, "conv1d.conv.bias": ours.conv.conv.bias,
    }  # fmt: skip
    arranged: dict[str, Arranged] = {name: ((parameter,),) for name, parameter in alike.items()}
    arranged["mlstm_cell.outnorm.weight"] = ((ours.norm,), from_one)
    for i, kind in enumerate("qkv"):
        arranged[f"{kind}_proj.weight"] = ((ours.qkv,), itemgetter(i))
    for i, kind in enumerate("if"):
        for part, parameter in ours.gates.named_parameters():
            arranged[f"mlstm_cell.{kind}gate.{part}"] = ((parameter,), half(i))
    return sides_of_modules(ours, package.mLSTMLayer(config).eval(), arranged)


def xlstm_slstm() -> Any:
    """xlstm's sLSTM layer, its path without CUDA. There the names of the first two gates are exchanged."""
    ours, package = our_mixer("slstm"), importlib.import_module("xlstm.blocks.slstm.layer")
    heads = ours.options.n_heads
    config = package.sLSTMLayerConfig(
        embedding_dim=D, num_heads=heads, conv1d_kernel_size=ours.options.d_conv, backend="vanilla",
        enable_automatic_mixed_precision=False, dtype="float32", _num_blocks=2,
    )  # fmt: skip
    arranged: dict[str, Arranged] = {f"conv1d.{name}": how for name, how in same(ours.conv).items()}
    for i, gate in enumerate("fizo"):
        arranged[f"{gate}gate.weight"] = ((ours.inputs,), lambda inputs, i=i: inputs[i].mT)
    arranged["slstm_cell._recurrent_kernel_"] = ((ours.recurrent,), of_heads)
    arranged["slstm_cell._bias_"] = ((ours.bias,),)
    arranged["group_norm.weight"] = ((ours.norm,), from_one)
    return sides_of_modules(ours, package.sLSTMLayer(config).eval(), arranged)


def mingru() -> Any:
    """minGRU-pytorch's layer, which has no biases: ours are zero."""
    ours = our_mixer("mingru", expand=2)
    with torch.no_grad():
        ours.in_proj.bias.zero_()
        ours.out_proj.bias.zero_()
    arranged: dict[str, Arranged] = {
        "to_hidden_and_gate.weight": ((ours.in_proj.weight,),), "to_out.weight": ((ours.out_proj.weight,),),
    }  # fmt: skip
    theirs = importlib.import_module("minGRU_pytorch").minGRU(D, 2.0, proj_out=True)
    return sides_of_modules(ours, theirs, arranged, unlike={"in_proj.bias", "out_proj.bias"})


def lru() -> Any:
    """LRU-pytorch's recurrence, without the layers after it. Its D is a matrix, B and C are complex."""
    ours = our_mixer("lru", d_state=20)
    theirs = importlib.import_module("LRU_pytorch").LRU(D, D, 20)
    arranged: dict[str, Arranged] = {
        "B": ((ours.B,), rows_complex), "C": ((ours.C,), torch.view_as_complex), "D": ((ours.D,), torch.diag),
    }  # fmt: skip
    arranged |= {name: ((getattr(ours, name),),) for name in ("nu_log", "theta_log", "gamma_log")}
    after = {f"{layer}.{part}" for layer in ("out_proj", "gate_proj") for part in ("weight", "bias")}
    run = lambda x: ours.read(diagonal_recurrence(*ours.enter(x)), x)  # noqa: E731
    return sides_of_modules(ours, theirs, arranged, run, unlike=after)


def s5() -> Any:
    """s5-pytorch's state space, without the gate after it. It doubles no state of a conjugate pair: its C is 2 C."""
    ours, package = our_mixer("s5"), importlib.import_module("s5.s5_model")
    values, turn = torch.view_as_complex(ours.L.detach()), torch.eye(ours.channels, dtype=torch.complex64)
    theirs = package.S5SSM(values, turn, turn, D, ours.channels, 0.001, 0.1, bcInit="dense")
    arranged: dict[str, Arranged] = {
        "Lambda": ((ours.L,), torch.view_as_complex), "log_step": ((ours.log_dt,),), "D": ((ours.D,),),
        "B": ((ours.B,), lambda B: B.mT), "C": ((ours.C,), lambda C: 2 * torch.view_as_complex(C)),
    }  # fmt: skip
    run = lambda x: ours.read(2 * diagonal_recurrence(*ours.enter(x)), x)  # noqa: E731
    batched = Running(theirs, lambda x: torch.stack([theirs(row) for row in x]))
    arranged = {f"module.{name}": how for name, how in arranged.items()}
    return sides_of_modules(ours, batched, arranged, run, unlike={"gate_proj.weight", "gate_proj.bias"})


def from_one(weight: Tensor) -> Tensor:
    return weight - 1


def half(which: int) -> Callable[[Tensor], Tensor]:
    return lambda both: both.chunk(2)[which]


def of_heads(recurrent: Tensor) -> Tensor:
    """(gates, heads, from, to) -> (heads, gates · to, from)."""
    return recurrent.permute(1, 0, 3, 2).flatten(1, 2)


def rows_complex(B: Tensor) -> Tensor:
    """(channels, 2, d_model) -> complex (channels, d_model)."""
    return torch.view_as_complex(B.mT.contiguous())


LAYERS = (
    Comparison("transformer", TRANSFORMERS, "DecisionTransformerModel", AGENT, decision_transformer),
    peer_layer(TRANSFORMERS, "LlamaAttention", "transformerpp", peers.LlamaPeer, peers.transformerpp),
    peer_layer(MAMBAPY, "MambaBlock", "mamba", peers.MambapyMixer, of_block),
    peer_layer(TRANSFORMERS, "MambaMixer", "mamba", MambaPeer, of_block),
    peer_layer(TRANSFORMERS, "Mamba2Mixer", "mamba2", peers.Mamba2Peer, peers.mamba2),
    peer_layer(TRANSFORMERS, "Qwen3NextGatedDeltaNet", "gated_deltanet", peers.GatedDeltaNetPeer, peers.gated_deltanet),
    peer_layer(TRANSFORMERS, "RecurrentGemmaRecurrentBlock", "rglru", peers.RGLRUPeer, peers.rglru),
    # Both add 1e-6 to a normaliser that has the stabiliser as a factor. Only theirs takes its gradient through that.
    Comparison("mlstm", XLSTM, "mLSTMLayer", LAYER, xlstm_mlstm, allowed=1e-5),
    Comparison("slstm", XLSTM, "sLSTMLayer", LAYER, xlstm_slstm),
    Comparison("mingru", MINGRU, "minGRU", LAYER, mingru),
    Comparison("lru", LRU, "LRU", RECURRENCE, lru),
    Comparison("s5", S5, "S5SSM", RECURRENCE, s5),
)
