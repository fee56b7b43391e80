"""Hybrids: the layers of one stack take turns between several mixers, as in Jamba (Lieber et al., arXiv:2403.19887)."""

import dataclasses
import re
from collections.abc import Mapping
from functools import cache, partial
from typing import Any, ClassVar

from backbench.backbones.contract import Backbone, Causal, Mixer, Spec
from backbench.backbones.options import make_options
from backbench.backbones.stack import ResidualStack
from backbench.errors import require


class Hybrid(ResidualStack):
    """Layer i is part i of the pattern, which begins again at its end. Equal parts share their options."""

    pattern: ClassVar[str]
    parts: ClassVar[Mapping[str, type[Mixer]]]  # name of the options' field -> mixer
    order: ClassVar[tuple[str, ...]]  # the fields, in the pattern's order

    def __init__(self, options: Any, spec: Spec) -> None:
        least = len(self.order)
        remedy = f"give model.n_layers={least} or more"
        require(
            spec.n_layers >= least,
            f"hybrid '{self.pattern}': model.n_layers={spec.n_layers} has no room for its {least} parts; {remedy}",
        )

        def mixer(at: Spec) -> Mixer:
            name = self.order[at.layer % least]
            return self.parts[name](getattr(options, name), at)

        super().__init__(mixer, options, spec)


@cache
def hybrid(pattern: str, classes: tuple[type[Causal], ...]) -> type[Backbone]:
    """The backbone of ``pattern``, such as ``mamba+mamba+transformer``, whose parts are ``classes``.

    Its options are those of its parts, a group for each name: ``backbone.mamba.d_state=32``. UserError: a part is a
    complete backbone, or two different parts have one name.
    """
    names = pattern.split("+")
    fields = [re.sub(r"\W", "_", name.rpartition(":")[2]) for name in names]
    for name, part in zip(names, classes, strict=True):
        stack = f"hybrid '{pattern}': {name} is a complete backbone; give a mixer, which makes one layer"
        require(issubclass(part, Mixer), stack)
    parts: dict[str, Any] = {}
    for field, part in zip(fields, classes, strict=True):
        require(parts.setdefault(field, part) is part, f"hybrid '{pattern}': two parts are called {field}; rename one")
    fresh = {field: dataclasses.field(default_factory=partial(make_options, part)) for field, part in parts.items()}
    groups = [(field, part.Options, fresh[field]) for field, part in parts.items()]
    made = dataclasses.make_dataclass("Options", groups, frozen=True)
    return type(
        f"Hybrid({pattern})",
        (Hybrid,),
        {
            "Options": made, "pattern": pattern, "parts": parts, "order": tuple(fields),
            "least_layers": len(names), "summary": f"Layers in turn: {', '.join(names)}",
            "uses_all_weights": all(part.uses_all_weights for part in classes),
        },
    )  # fmt: skip
