"""What is compared: sequence backbones behind one contract.

Importing this package imports neither PyTorch nor any backbone, so names are listed quickly. These modules need
PyTorch: :mod:`.contract` (Backbone, Mixer, Spec), :mod:`.build` (build), :mod:`.check` (check).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backbench.backbones.options import make_options
from backbench.errors import UserError, require, suggest
from backbench.registry import Registry

if TYPE_CHECKING:
    from backbench.backbones.contract import Causal

__all__ = ["BACKBONES", "UserError", "make_options", "suggest", "summary_of"]


class Backbones(Registry["type[Causal]"]):
    """The registry of backbones, which also makes hybrids: ``mamba+mamba+transformer`` joins three mixers."""

    def get(self, name: str) -> type[Causal]:
        parts = name.split("+")
        if len(parts) == 1:
            return super().get(name)
        require(all(parts), f"hybrid '{name}': a part has no name; write it as in mamba+mamba+transformer")
        from backbench.backbones.hybrid import hybrid

        return hybrid(name, tuple(map(super().get, parts)))

    def origin(self, name: str) -> str:
        """Where ``name`` comes from. Of a hybrid: where its part does that is trusted least."""
        origins = [super(Backbones, self).origin(part) for part in name.split("+")]
        return max(origins, key=lambda origin: (origin == "command line", origin != "built-in"))


BACKBONES = Backbones(
    kind="backbone",
    builtin={
        "convformer": "backbench.backbones.mixers.convformer:Convformer",
        "deltanet": "backbench.backbones.mixers.deltanet:DeltaNet",
        "gated_deltanet": "backbench.backbones.mixers.deltanet:GatedDeltaNet",
        "gla": "backbench.backbones.mixers.gla:GLA",
        "gloma": "backbench.backbones.mixers.gloma:GLoMa",
        "gru": "backbench.backbones.mixers.rnn:GRU",
        "hgrn2": "backbench.backbones.mixers.hgrn2:HGRN2",
        "identity": "backbench.backbones.mixers.identity:Identity",
        "linear_attention": "backbench.backbones.mixers.linear_attention:LinearAttention",
        "lru": "backbench.backbones.mixers.lru:LRU",
        "lstm": "backbench.backbones.mixers.rnn:LSTM",
        "mamba": "backbench.backbones.mixers.mamba:Mamba",
        "mamba2": "backbench.backbones.mixers.mamba2:Mamba2",
        "mingru": "backbench.backbones.mixers.mingru:MinGRU",
        "mlp": "backbench.backbones.mixers.mlp:StepMLP",
        "mlstm": "backbench.backbones.mixers.mlstm:MLSTM",
        "retnet": "backbench.backbones.mixers.retnet:RetNet",
        "rglru": "backbench.backbones.mixers.rglru:RGLRU",
        "rwkv7": "backbench.backbones.mixers.rwkv7:RWKV7",
        "s5": "backbench.backbones.mixers.s5:S5",
        "slstm": "backbench.backbones.mixers.slstm:SLSTM",
        "transformer": "backbench.backbones.mixers.transformer:Transformer",
        "transformerpp": "backbench.backbones.mixers.transformer:TransformerPP",
    },
    bases=("backbench.backbones.contract:Backbone", "backbench.backbones.contract:Mixer"),
    group="backbench.backbones",
)


def summary_of(backbone: type[Causal]) -> str:
    """One line that describes a backbone: its ``summary``, else the first line of its docstring."""
    return backbone.summary or (backbone.__doc__ or "").strip().partition("\n")[0]
