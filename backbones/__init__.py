"""What is compared: sequence backbones behind one contract.

Importing this package imports neither PyTorch nor any backbone, so names can be listed in no time. What needs PyTorch
is in the modules: :mod:`.contract` (Backbone, Mixer, Spec), :mod:`.build` (build), :mod:`.check` (check).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backbench.backbones.errors import UserError, suggest
from backbench.backbones.options import make_options
from backbench.backbones.registry import Registry

if TYPE_CHECKING:
    from backbench.backbones.contract import Causal

BACKBONES: Registry[Causal] = Registry(
    kind="backbone",
    bases=("backbench.backbones.contract:Backbone", "backbench.backbones.contract:Mixer"),
    builtin={
        "gloma": "backbench.backbones.gloma:GLoMa",
        "identity": "backbench.backbones.identity:Identity",
        "mamba": "backbench.backbones.mamba:Mamba",
        "mlp": "backbench.backbones.mlp:StepMLP",
        "transformer": "backbench.backbones.transformer:Transformer",
    },
    group="backbench.backbones",
)

__all__ = ["BACKBONES", "Registry", "UserError", "make_options", "suggest"]
