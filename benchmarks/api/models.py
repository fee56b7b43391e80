"""Backbones from Python: ``backbench.make_backbone`` and ``backbench.register``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backbench.errors import require

if TYPE_CHECKING:
    from backbench.backbones.contract import Backbone, Causal


def make_backbone(
    name: str | type[Causal],
    d_model: int = 64,
    n_layers: int = 2,
    *,
    dropout: float = 0.0,
    max_length: int = 60,
    **options: Any,
) -> Backbone:
    """A backbone with new weights from torch's global generator: a causal module (B, T, D) -> (B, T, D).

        model = backbench.make_backbone("mamba", d_model=64, n_layers=2, d_state=8)
        y = model(torch.randn(8, 30, 64))                  # complete sequences
        state = model.initial_state(8)                     # or one token at a time, with the same outputs
        for x_t in x.unbind(1):                            # (B, D)
            y_t, state = model.step(x_t, state)

    Args:
        name: a registered name, ``package.module:Class``, such names joined by ``+`` for layers in turn, or a class.
        d_model: D, width of a token.
        n_layers: layers of the residual stack.
        dropout: probability in [0, 1), active in training mode.
        max_length: longest context in tokens. Backbones with a window or a table of positions need it: a window
            forgets earlier tokens in ``step``.
        options: the backbone's own; ``bench list backbones`` has their names.

    Raises:
        UserError: unknown name or option, or a value that does not fit.
    """
    from backbench.backbones.build import build
    from backbench.backbones.contract import Spec

    return build(name, options, Spec(d_model, n_layers, dropout, max_length=max_length))


def register(name: str, backbone: type[Causal]) -> type[Causal]:
    """Name a mixer or a backbone for ``run``, ``cell`` and ``make_backbone``, in this process. Returns the class.

        backbench.register("average", Average)
        backbench.run(["average", "transformer"], task="hopper-medium")

    Records name it ``average``, so only a process that registers it can repeat them. A class in a module of its own
    needs no registration: its name is ``module:Class``, which every process can import.

    Args:
        name: letters, digits, - and _. A name that was registered before gets the new class.
        backbone: a class derived from ``Mixer`` or ``Backbone`` of ``backbench.backbones.contract``; ``adapt`` of
            ``backbench.backbones.adapt`` makes one of any PyTorch module.

    Raises:
        UserError: the name is taken by a built-in or installed backbone, or the class is of another kind.
    """
    from backbench.backbones import BACKBONES

    require(isinstance(backbone, type), f"register: {backbone!r} is no class; give a class, or adapt(module)")
    BACKBONES.add(name, backbone)
    return backbone
