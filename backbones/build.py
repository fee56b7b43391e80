"""From a name and options to a backbone."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from backbench.backbones import BACKBONES
from backbench.backbones.contract import Backbone, Causal, Mixer, Spec
from backbench.backbones.options import make_options
from backbench.backbones.stack import ResidualStack
from backbench.errors import UserError


def build(backbone: str | type[Causal], options: Mapping[str, Any] | object | None, spec: Spec) -> Backbone:
    """Build a backbone. A mixer is put into the shared residual stack.

    ``backbone`` is a registered name, ``package.module:Class``, such names joined by ``+``, or the class itself.
    ``options`` are those to change, as a mapping or as the backbone's dataclass. Raises UserError: unknown name or
    option, or a value that does not fit.
    """
    cls = BACKBONES.get(backbone) if isinstance(backbone, str) else backbone
    if not issubclass(cls, Mixer | Backbone):
        raise UserError(f"{cls.__name__} is neither a Mixer nor a Backbone; derive it from one")
    made = make_options(cls, options)
    return ResidualStack(partial(cls, made), made, spec) if issubclass(cls, Mixer) else cls(made, spec)
