"""Programs of the compiled library for the layers of a stack, for mixers that are known here."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from torch import nn

from backbench.backbones.contract import Mixer
from backbench.backbones.dropout import Dropout
from backbench.backbones.kernels.layers.program import ACTIVATIONS, COMBINE, Program, Weight
from backbench.backbones.mixers.gloma import GLoMa
from backbench.backbones.mixers.mamba import Mamba, MambaBlock
from backbench.backbones.mixers.transformer import Transformer
from backbench.backbones.stack import NORM_EPS, FeedForward, GatedFeedForward, Layer, ResidualStack

KNOWN = (
    ResidualStack, Layer, FeedForward, GatedFeedForward, Dropout, Transformer, Mamba, MambaBlock, GLoMa, nn.ModuleList,
    nn.Linear, nn.Conv1d, nn.LayerNorm, nn.RMSNorm, nn.GELU, nn.ReLU,
)  # fmt: skip


def known(parts: Iterable[nn.Module]) -> bool:
    """Whether a program can be written for layers of these parts, which are all the modules below a stack."""
    parts = list(parts)
    norms = [one for one in parts if isinstance(one, nn.LayerNorm | nn.RMSNorm)]
    plain = all(type(one) in KNOWN for one in parts) and all(one.eps == NORM_EPS for one in norms)
    affine = all(one.weight is not None for one in norms)
    return plain and affine and all(_options_known(one) for one in parts if isinstance(one, Mixer))


def _options_known(mixer: Mixer) -> bool:
    o: Any = mixer.options
    if isinstance(mixer, Transformer):
        return o.kernels == "auto" and not mixer.rotary
    compiled = o.kernels in ("auto", "cpp")
    if isinstance(mixer, GLoMa):
        return compiled and o.fusion != "gated" and (o.local == "overlapping" or o.branches == "global")
    return compiled


class Result(NamedTuple):
    """A table of what a mixer mixed, and what follows."""

    table: int
    tokens: int  # of a row
    width: int
    gate: nn.Linear | None  # the layer whose second half gates it, if that is still to do
    out: nn.Linear


def written(backbone: Any, batch: int, count: int, carried: bool) -> Program:
    """All layers, then the final norm, for ``batch`` rows of ``count`` tokens, after others if a state is carried."""
    writer = Writer(Program(batch, count, backbone.spec.d_model), carried)
    for layer in backbone.layers:
        writer.layer(layer, layer is backbone.layers[-1])
    writer.norm(backbone.norm, 0)
    writer.program.finish()
    return writer.program


class Writer:
    """Writes layers. Columns: the residual stream from 0 on, what is normalised from d_model on, then work."""

    def __init__(self, program: Program, carried: bool) -> None:
        self.program = program
        self.carried = carried
        self.d = program.d_model
        self.work = program.columns(self.d, self.d)
        self.count = program.count  # tokens of a row in the residual stream
        self.used = 0  # tensors of the state that belong to earlier parts
        # Without a state, what the first mixer projects is given. The tensors: tokens, then those of `project`.
        self.given = 0 if carried else 1

    def layer(self, layer: Layer, last: bool) -> None:
        """A layer of the stack; of the ``last`` one only the last token's results."""
        if not self.given:
            self.norm(layer.norm1, self.d)
        results, fusion = WRITERS[type(layer.mixer)](self, layer.mixer, last)
        self.given = 0
        if last:
            for columns in (0, self.d):
                self.tail(columns, columns, self.count, 1)
            self.count = 1
        fused = self.program.columns(self.work, max(one.width for one in results))
        for i, one in enumerate(results):
            before = one.tokens - self.count
            self.program.add(
                "to_columns", source=one.table, target=self.work, width=one.width, count=self.count, before=before
            )
            if one.gate is not None:
                codes = {"mode": ACTIVATIONS.index("silu"), "combine": COMBINE.index("multiply")}
                self.half(one.gate, self.d, self.work, self.count, one.width, codes)
            target = 0 if fusion is None else fused + i * self.d
            self.product(one.out, self.work, target, combine="add" if fusion is None else "set")
        if fusion is not None:
            self.program.columns(fused, len(results) * self.d)
            self.product(fusion, fused, 0, combine="add")
        if layer.norm2 is not None:
            self.norm(layer.norm2, self.d)
            self.feed_forward(layer.ffn)

    def norm(self, norm: nn.Module, target: int) -> None:
        """The residual stream, normalised."""
        layer = isinstance(norm, nn.LayerNorm)
        self.program.add("norm", target=target, width=self.d, count=self.count, mode=int(layer), **_weights(norm))

    def tail(self, source: int, target: int, count: int, kept: int) -> None:
        """The last ``kept`` of ``count`` tokens, as wide as the residual stream."""
        self.program.columns(target, self.d)
        self.program.add("tail", source=source, target=target, width=self.d, count=kept, before=count - kept)

    def product(
        self, layer: Any, source: int, target: int, mode: str = "none", combine: str = "set", count: int = 0
    ) -> int:  # fmt: skip
        """A linear layer and an activation, for ``count`` tokens or all; the first column after its results."""
        size, width = layer.weight.shape
        codes = {"mode": ACTIVATIONS.index(mode), "combine": COMBINE.index(combine), "count": count or self.count}
        self.program.columns(source, width)
        self.program.add("product", source=source, target=target, width=width, size=size, **codes, **_weights(layer))
        return self.program.columns(target, size)

    def half(self, layer: nn.Linear, source: int, target: int, count: int, first: int, codes: Any) -> None:
        """Half of a linear layer without bias: its outputs from ``first`` on."""
        size, width = layer.out_features // 2, layer.in_features
        self.program.columns(target, size)
        weight = (layer._parameters, "weight", first * width)
        self.program.add(
            "product", source=source, target=target, width=width, size=size, count=count, weight=weight, **codes
        )

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
        tokens = self.program.table(0, self.count, self.d)
        self.program.table(tokens, self.count, total)
        self.program.add("to_table", source=self.work, target=tokens, width=total, count=self.count)
        made = self.program.add(
            "attend", source=tokens, width=total, size=self.d, count=self.count, mode=int(last), combine=mixer.window,
            other=slots, heads=mixer.n_heads, groups=mixer.kv_heads, most=spec.max_length, step=spec.tokens_per_step,
        )  # fmt: skip
        self.take(made, "state", "numbers", "seen")
        return [Result(0, self.count, self.d, None, mixer.out_proj)], None

    def mamba(self, mixer: Mamba, _: bool) -> tuple[list[Result], nn.Linear | None]:
        return [self.block(mixer.block, 0, None, self.count)[0]], None

    def gloma(self, mixer: GLoMa, last: bool) -> tuple[list[Result], nn.Linear | None]:
        """State: those of the branches, then a position, which overlapping windows leave alone."""
        results, start, near = [], 0, mixer._near()
        self.given += bool(self.given)  # the mixer's input
        if mixer.global_branch is not None:
            result, start = self.block(mixer.global_branch, 0, None, self.count)
            results.append(result)
        if near is not None and mixer.options.branches != "global":
            count, window = self.count, mixer.scan_window or 0
            if last and not self.carried and not self.given:  # what the last token does not see need not be computed
                count = min(count, window + near.conv1d.kernel_size[0] - 1)
            results.append(self.block(near, start, window, count)[0])
        self.used += 1
        return results, mixer.fusion

    def block(self, block: MambaBlock, start: int, window: int | None, count: int) -> tuple[Result, int]:
        """A Mamba block up to the gate for the last ``count`` tokens: its results are the table at ``start``; the first
        float after it."""
        p, (channels, states), taps = self.program, block.A_log.shape, block.conv1d.kernel_size[0]
        before = taps - 1 if self.carried else 0
        sizes = ((0, channels), (before, channels), (before, channels), (0, channels), (0, 2 * states))
        places = [start]
        for earlier, width in sizes:
            places.append(p.table(places[-1], earlier + count, width))
        y, seen, u, dt, selected, _ = places
        to_dt, inputs = self.work + channels, self.work + 2 * channels
        common = {"count": count, "width": channels}
        if not self.given:
            source = self.d
            if count < self.count:
                self.tail(self.d, source := inputs, self.count, count)
            self.half(block.in_proj, source, self.work, count, 0, {})
            p.add("to_table", source=self.work, target=seen, before=before, **common)
        made = p.add("convolve", source=seen, target=u, before=before, size=taps, **common, **_weights(block.conv1d))
        self.take(made, "state") if self.carried else self.give(made, "x")
        p.add("to_columns", source=u, target=self.work, before=before, **common)
        self.product(block.x_proj, self.work, inputs, count=count)
        self.product(block.dt_proj, inputs, to_dt, count=count)
        p.add("to_table", source=to_dt, target=dt, **common)
        p.add("to_table", source=inputs + block.split[0], target=selected, width=2 * states, count=count)
        made = p.add(
            "scan_window" if window and self.carried else "scan", source=u, target=y, size=states, mode=window or 0,
            combine=int(block.negative), before=before, other=dt, weight=(block._parameters, "A_log", 0),
            bias=(block._parameters, "D", 0), **common,
        )  # fmt: skip
        if self.carried:
            self.take(made, *(("state", "state_2", "state_3") if window else ("state",)))
        gate = None if self.give(made, "gate") else block.in_proj
        return Result(y, count, channels, gate, block.out_proj), places[1]

    def take(self, operation: Any, *fields: str) -> None:
        """The operation's fields are the next tensors of the state."""
        for field in fields:
            self.program.states.append((operation, field, self.used))
            self.used += 1

    def give(self, operation: Any, field: str) -> bool:
        """If tensors are given, the operation's field is the next of them."""
        if self.given:
            self.program.given.append((operation, field, self.given))
            self.given += 1
        return bool(self.given)


def _weights(module: nn.Module) -> dict[str, Weight]:
    return {name: (module._parameters, name, 0) for name in ("weight", "bias")}


WRITERS: dict[type[Mixer], Callable[..., tuple[list[Result], nn.Linear | None]]] = {
    Transformer: Writer.attention, Mamba: Writer.mamba, GLoMa: Writer.gloma,
}  # fmt: skip
