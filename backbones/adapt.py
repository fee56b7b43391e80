"""A backbone from any PyTorch module, (batch, length, d_model) to the same, or to a tuple that begins with it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from backbench.backbones.contract import Mixer, Spec
from backbench.errors import UserError, one_line
from backbench.registry import load

OPTION = (bool, int, float, str)  # types of arguments that become options
FIELDS = {f"{{{field.name}}}": field.name for field in dataclasses.fields(Spec)}  # "{d_model}" and so on


def adapt(module: str | Callable[..., nn.Module], /, **arguments: Any) -> type[Mixer]:
    """A mixer around ``module(**arguments)``: a dotted name, ``package.module:Class``, or a function that makes it.

    ``"{d_model}"`` stands for that field of the spec; so do ``"{max_length}"``, ``"{dropout}"``, ``"{layer}"`` and the
    others. Any other number, bool or string is an option of the backbone with that default. The module keeps its own
    initialisation. It acts by a window of the longest context, as every mixer without a step. The summary is the first
    line of a function's docstring.

    Raises UserError if a field is unknown. A wrong module is an error when the mixer is built or run.
    """
    name = module if isinstance(module, str) else getattr(module, "__qualname__", repr(module))
    about = "" if isinstance(module, str) else (module.__doc__ or "").strip()
    for key, value in arguments.items():
        if isinstance(value, str) and value.startswith("{") and value not in FIELDS:
            raise UserError(f"adapt: {key}={value!r} is no field of the spec; give one of {', '.join(FIELDS)}")
    of_spec = {key: FIELDS[value] for key, value in arguments.items() if isinstance(value, str) and value in FIELDS}
    plain = {key: value for key, value in arguments.items() if key not in of_spec and type(value) in OPTION}
    own = [(key, type(value), value) for key, value in plain.items()]

    class Adapted(Mixer):
        Options: ClassVar[type] = dataclasses.make_dataclass("Options", own, frozen=True)
        summary: ClassVar[str] = about.partition("\n")[0] or f"{name}, adapted"

        def __init__(self, options: Any, spec: Spec) -> None:
            super().__init__(options, spec)
            given = {key: getattr(spec, field) for key, field in of_spec.items()}
            self.block = _made(module, name, arguments | dataclasses.asdict(options) | given)

        def forward(self, x: Tensor) -> Tensor:
            y = self.block(x)
            y = y[0] if isinstance(y, tuple | list) and y else y
            if not isinstance(y, Tensor) or y.shape != x.shape:
                got = tuple(y.shape) if isinstance(y, Tensor) else f"a {type(y).__name__}"
                wanted = "return the same size, or a tuple that begins with it"
                raise UserError(f"{name} returned {got} for {tuple(x.shape)}; {wanted}")
            return y

    Adapted.__name__ = Adapted.__qualname__ = name.replace(":", ".").rpartition(".")[2]
    return Adapted


def _made(module: str | Callable[..., nn.Module], name: str, values: Mapping[str, Any]) -> nn.Module:
    """The module. UserError: it cannot be imported or made, or is none."""
    make: Any = module
    if isinstance(module, str):
        make = load(module if ":" in module else ":".join(module.rsplit(".", 1)), f"module '{name}'", "adapt")
    given = ", ".join(f"{key}={value!r}" for key, value in values.items())
    try:
        made = make(**values)
    except Exception as error:  # whatever a foreign module raises is about its arguments, or its own fault
        said = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(f"{name}({given}) raised {said}; change the arguments of adapt") from error
    if not isinstance(made, nn.Module):
        raise UserError(f"{name}({given}) is a {type(made).__name__}, not a torch.nn.Module; adapt takes modules")
    return made
