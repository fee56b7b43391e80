"""Acting in one compiled call: what `ResidualStack.extend` computes for a few tokens, for mixers that are known here.

It equals the layers' own `extend` up to rounding, and changes the same states. Weights are read where PyTorch keeps
them, so a change of weights needs no word. Whatever it does not know runs as before: another mixer, a subclass, hooks,
dropout, gradients, another device or number type, a named kernel, no compiler.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from backbench.backbones.contract import LAST, Backbone, Mixer, State, map_state
from backbench.backbones.dropout import Dropout
from backbench.backbones.kernels.layers.layers import LAYERS
from backbench.backbones.kernels.layers.program import ACTIVATIONS, COMBINE, Program, Weight, readable
from backbench.backbones.mixers.gloma import GLoMa
from backbench.backbones.mixers.mamba import Mamba, MambaBlock
from backbench.backbones.mixers.transformer import Transformer
from backbench.backbones.stack import NORM_EPS, FeedForward, GatedFeedForward, Layer, ResidualStack

Result: TypeAlias = tuple[int, int, nn.Linear]  # a table of a mixer's results, their width, the layer that follows
KNOWN = (
    ResidualStack, Layer, FeedForward, GatedFeedForward, Dropout, Transformer, Mamba, MambaBlock, GLoMa, nn.ModuleList,
    nn.Linear, nn.Conv1d, nn.LayerNorm, nn.RMSNorm, nn.GELU, nn.ReLU,
)  # fmt: skip


def _known(mixer: Mixer) -> bool:
    """Whether the options of a mixer of a known class are among those that are written here."""
    o: Any = mixer.options
    if isinstance(mixer, Transformer):
        return o.kernels == "auto" and not mixer.rotary
    if isinstance(mixer, GLoMa):
        known = o.fusion != "gated" and (o.local == "overlapping" or o.branches == "global")
        return known and o.kernels in ("auto", "cpp")
    return isinstance(mixer, Mamba) and o.kernels in ("auto", "cpp")


class FusedLayers:
    """``extend`` of a stack at its last position."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.modules = list(backbone.modules())
        self.programs: dict[tuple[int, int], Program] = {}
        stack = type(backbone).extend is ResidualStack.extend and type(backbone).step is ResidualStack.step
        others = [one for one in self.modules if one is not backbone]
        same_eps = all(one.eps == NORM_EPS for one in others if isinstance(one, nn.LayerNorm | nn.RMSNorm))
        self.known = (
            stack and same_eps and all(type(one) in KNOWN for one in others)
            and all(_known(one) for one in others if isinstance(one, Mixer))
        )  # fmt: skip

    def extend(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """``backbone.extend(x, state, LAST)``."""
        program = self._program(x, state) if self.known and self._plain(x) else None
        if program is None:
            return self.backbone.extend(x, state, LAST)
        return LAYERS.table["cpp"].function(program, x.contiguous()), state

    def _plain(self, x: Tensor) -> bool:
        """Whether nothing but numbers is asked for."""
        if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return False
        if type(x) is not Tensor or x.device.type != "cpu" or x.dtype != torch.float32:
            return False
        if x.shape[1] > self.backbone.spec.tokens_per_step:
            return False
        plain = not any(
            one.training or one._forward_hooks or one._forward_pre_hooks or "forward" in one.__dict__
            for one in self.modules
        )
        return plain and LAYERS.pick("auto", x).name == "cpp"

    def _program(self, x: Tensor, state: State) -> Program | None:
        """The program for these sizes, which points at weights and state as they are now. None if they do not fit."""
        program = self.programs.get((len(x), x.shape[1]))
        if program is None:
            self.programs = {key: one for key, one in self.programs.items() if key[0] == len(x)}
            program = self.programs[len(x), x.shape[1]] = _written(self.backbone, len(x), x.shape[1])
        if not program.refresh():
            return None
        if state is not program.state:
            leaves, first = _leaves(state), _leaves(self.backbone.initial_state(1))
            pairs = zip(leaves, first, strict=True) if len(leaves) == len(first) else ()
            if not all(readable(one, (len(x), *like.shape[1:]), like.dtype) for one, like in pairs):
                return None
            program.adopt(state, leaves)
        return program


def _leaves(state: State) -> list[Tensor]:
    found: list[Tensor] = []
    map_state(found.append, state)
    return found


def _written(backbone: Any, batch: int, count: int) -> Program:
    """All layers, then the final norm, for ``batch`` rows of ``count`` tokens."""
    writer = Writer(Program(batch, count, backbone.spec.d_model))
    for layer in backbone.layers:
        writer.layer(layer, layer is backbone.layers[-1])
    writer.norm(backbone.norm, 0)
    writer.program.finish()
    return writer.program


class Writer:
    """Writes layers. Columns: the residual stream from 0 on, what is normalised from d_model on, then work."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.d = program.d_model
        self.work = program.columns(self.d, self.d)
        self.used = 0  # tensors of the state that belong to earlier parts

    def layer(self, layer: Layer, last: bool) -> None:
        """A layer of the stack; of the ``last`` one only the last token's results."""
        self.norm(layer.norm1, self.d)
        results, fusion = WRITERS[type(layer.mixer)](self, layer.mixer, last)
        if last:
            self.program.add("last", width=self.d)
        fused = self.program.columns(self.work, max(width for _, width, _ in results))
        for i, (table, width, out) in enumerate(results):
            self.program.add("to_columns", source=table, target=self.work, width=width, mode=int(last))
            target = 0 if fusion is None else fused + i * self.d
            self.product(out, self.work, target, combine="add" if fusion is None else "set")
        if fusion is not None:
            self.program.columns(fused, len(results) * self.d)
            self.product(fusion, fused, 0, combine="add")
        if layer.norm2 is not None:
            self.norm(layer.norm2, self.d)
            self.feed_forward(layer.ffn)

    def norm(self, norm: nn.Module, target: int) -> None:
        """The residual stream, normalised."""
        layer = isinstance(norm, nn.LayerNorm)
        self.program.add("norm", target=target, width=self.d, mode=int(layer), **_weights(norm))

    def product(self, layer: nn.Module, source: int, target: int, mode: str = "none", combine: str = "set") -> int:
        """A linear layer and an activation; the first column after its results."""
        size, width = layer.weight.shape
        codes = {"mode": ACTIVATIONS.index(mode), "combine": COMBINE.index(combine)}
        self.program.add("product", source=source, target=target, width=width, size=size, **codes, **_weights(layer))
        return self.program.columns(target, size)

    def feed_forward(self, ffn: Any) -> None:
        if isinstance(ffn, GatedFeedForward):
            self.product(ffn.gate, self.d, self.work, "silu")
            self.product(ffn.up, self.d, self.work, combine="multiply")
        else:
            kind = ffn.activation
            relu, tanh = isinstance(kind, nn.ReLU), getattr(kind, "approximate", "") == "tanh"
            self.product(ffn.up, self.d, self.work, "relu" if relu else "gelu_tanh" if tanh else "gelu")
        self.product(ffn.down, self.work, 0, combine="add")

    def attention(self, mixer: Transformer, last: bool) -> tuple[list[Result], nn.Linear | None]:
        """State: cache, numbers, tokens seen."""
        total, spec = sum(mixer.sizes), mixer.spec
        slots = mixer.initial_state(1)[1].shape[1]
        self.product(mixer.qkv_proj, self.d, self.work)
        tokens = self.program.table(0, 0, self.d)
        self.program.table(tokens, 0, total)
        self.program.add("to_table", source=self.work, target=tokens, width=total)
        made = self.program.add(
            "attend", source=tokens, width=total, size=self.d, mode=int(last), combine=mixer.window, other=slots,
            heads=mixer.n_heads, groups=mixer.kv_heads, most=spec.max_length, step=spec.tokens_per_step,
        )  # fmt: skip
        self.take(made, "state", "numbers", "seen")
        return [(0, self.d, mixer.out_proj)], None

    def mamba(self, mixer: Mamba, _: bool) -> tuple[list[Result], nn.Linear | None]:
        return [self.block(mixer.block, 0, None)[0]], None

    def gloma(self, mixer: GLoMa, _: bool) -> tuple[list[Result], nn.Linear | None]:
        """State: those of the branches, then a position, which overlapping windows leave alone."""
        results, start, near = [], 0, mixer._near()
        if mixer.global_branch is not None:
            result, start = self.block(mixer.global_branch, 0, None)
            results.append(result)
        if near is not None and mixer.options.branches != "global":
            results.append(self.block(near, start, mixer.scan_window)[0])
        self.used += 1
        return results, mixer.fusion

    def block(self, block: MambaBlock, start: int, window: int | None) -> tuple[Result, int]:
        """A Mamba block up to the gate, whose results are the table at ``start``; the first float after it."""
        p, (channels, states), before = self.program, block.A_log.shape, block.conv1d.kernel_size[0] - 1
        sizes = ((0, channels), (before, channels), (before, channels), (0, channels), (0, 2 * states), (0, channels))
        places = [start]
        for earlier, width in sizes:
            places.append(p.table(places[-1], earlier, width))
        y, seen, u, dt, selected, gate, _ = places
        to_dt = self.work + channels
        inputs = self.product(block.in_proj, self.d, self.work)
        p.add("to_table", source=self.work, target=seen, width=channels, before=before)
        p.add("to_table", source=to_dt, target=gate, width=channels)
        taps = {"weight": _weights(block.conv1d)["weight"], "bias": _weights(block.conv1d)["bias"]}
        made = p.add("convolve", source=seen, target=u, width=channels, before=before, **taps)
        self.take(made, "state")
        p.add("to_columns", source=u, target=self.work, width=channels, before=before)
        self.product(block.x_proj, self.work, inputs)
        self.product(block.dt_proj, inputs, to_dt)
        p.add("to_table", source=to_dt, target=dt, width=channels)
        p.add("to_table", source=inputs + block.split[0], target=selected, width=2 * states)
        made = p.add(
            "scan" if window is None else "scan_window", source=u, target=y, width=channels, size=states,
            mode=window or 0, combine=int(block.negative), before=before, other=dt,
            weight=(block._parameters, "A_log"), bias=(block._parameters, "D"),
        )  # fmt: skip
        self.take(made, *(("state",) if window is None else ("state", "state_2", "state_3")))
        return (y, channels, block.out_proj), places[1]

    def take(self, operation: Any, *fields: str) -> None:
        """The operation's fields are the next tensors of the state."""
        for field in fields:
            self.program.states.append((operation, field, self.used))
            self.used += 1


def _weights(module: nn.Module) -> dict[str, Weight]:
    return {name: (module._parameters, name) for name in ("weight", "bias")}


WRITERS: dict[type[Mixer], Callable[..., tuple[list[Result], nn.Linear | None]]] = {
    Transformer: Writer.attention, Mamba: Writer.mamba, GLoMa: Writer.gloma,
}  # fmt: skip
