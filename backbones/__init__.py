"""What is compared: sequence backbones behind one contract.

Importing this package imports neither PyTorch nor any backbone, so names are listed quickly. These modules need
PyTorch: :mod:`.contract` (Backbone, Mixer, Spec), :mod:`.build` (build), :mod:`.check` (check).
"""

from __future__ import annotations

from backbench.backbones.options import make_options
from backbench.backbones.registry import BACKBONES
from backbench.errors import UserError, suggest

__all__ = ["BACKBONES", "UserError", "make_options", "suggest"]
