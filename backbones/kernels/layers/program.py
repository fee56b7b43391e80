"""Programs for the compiled library: the layers of a stack as a list of operations, see native/program.h."""

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from backbench.backbones.kernels.native import loader

KINDS = ("norm", "product", "to_table", "to_columns", "tail", "convolve", "scan", "scan_window", "attend")
ACTIVATIONS = ("none", "relu", "gelu", "gelu_tanh", "silu")
COMBINE = ("set", "add", "multiply")
PANEL = 16  # tokens

# A module's parameters, a name in them, whose parameter may be replaced, and the first number that is meant.
Weight = tuple[Mapping[str, Any], str, int]


class Operation(ctypes.Structure):
    _fields_ = (
        *loader.fields(
            "kind source target width size count before mode combine other heads groups most step",
            pointers="weight bias state state_2 state_3 numbers seen",
        ),
        *loader.fields(rows="x gate"),
    )


class Header(ctypes.Structure):
    _fields_ = (
        *loader.fields("batch count features length", pointers="operations columns tables scratch"),
        *loader.fields(rows="x"),
        *loader.fields(pointers="y"),
        *loader.fields("width"),
    )


class Program:
    """Operations for ``batch`` rows of ``count`` tokens, ``d_model`` wide.

    `add` appends one. `columns` and `table` reserve memory: the number of a first feature, or of a first float.
    """

    def __init__(self, batch: int, count: int, d_model: int) -> None:
        self.batch, self.count, self.d_model = batch, count, d_model
        self.operations: list[Operation] = []
        self.weights: list[tuple[Operation, str, Weight, torch.Size]] = []
        self.states: list[tuple[Operation, str, int]] = []  # which of the state's tensors
        self.given: list[tuple[Operation, str, int]] = []  # which of the given tensors
        self.features = self.floats = 0
        self.pointers: list[int] = []  # of the weights at the last run
        self.state: Any = None  # the one whose pointers the operations have

    def add(self, kind: str, **values: Any) -> Operation:
        """Append an operation. ``weight`` and ``bias`` are a `Weight`, or None; other values are numbers."""
        made = Operation(kind=KINDS.index(kind))
        for name, value in values.items():
            if name in ("weight", "bias"):
                if value is not None and value[0].get(value[1]) is not None:
                    self.weights.append((made, name, value, value[0][value[1]].shape))
            else:
                setattr(made, name, value)
        self.operations.append(made)
        return made

    def columns(self, first: int, count: int) -> int:
        """The first feature after ``count`` features from ``first`` on, for which there will be memory."""
        self.features = max(self.features, first + count)
        return first + count

    def table(self, start: int, tokens: int, width: int) -> int:
        """The first float after a table of so many tokens a row that starts there."""
        end = start + self.batch * tokens * width
        self.floats = max(self.floats, end)
        return end

    def finish(self) -> None:
        """Lay the operations side by side and get their memory."""
        self.array = (Operation * len(self.operations))(*self.operations)
        place = {id(one): one_of for one, one_of in zip(self.operations, self.array, strict=True)}  # it holds copies
        self.weights = [(place[id(one)], *rest) for one, *rest in self.weights]
        self.states = [(place[id(one)], *rest) for one, *rest in self.states]
        self.given = [(place[id(one)], *rest) for one, *rest in self.given]
        panels = -(-self.batch * self.count // PANEL)
        sizes = (self.batch, self.count, self.features, len(self.operations))
        self.header = Header(*sizes, ctypes.addressof(self.array), width=self.d_model)
        scratch = loader.library().backbench_program_scratch(ctypes.byref(self.header))
        self.memory = [torch.empty(n + PANEL) for n in (panels * PANEL * self.features, self.floats, scratch)]
        self.header.columns, self.header.tables, self.header.scratch = (one.data_ptr() for one in self.memory)

    def run(self, x: Tensor) -> Tensor:
        """(batch, count, d_model), its last dimension contiguous -> the last token's (batch, 1, d_model)."""
        y = torch.empty(self.batch, 1, self.d_model)
        self.header.x, self.header.y = loader.rows(x), y.data_ptr()
        loader.library().backbench_program(ctypes.byref(self.header))
        return y

    def refresh(self) -> bool:
        """Point at the weights as they are now. False if the library cannot read one of them."""
        now = [parameters[name].data_ptr() for _, _, (parameters, name, _), _ in self.weights]
        if now != self.pointers:
            if not all(readable(parameters[name], shape) for _, _, (parameters, name, _), shape in self.weights):
                return False
            for (operation, field, (*_, first), _), pointer in zip(self.weights, now, strict=True):
                setattr(operation, field, pointer + 4 * first)
            self.pointers = now
        return True

    def adopt(self, state: Any, leaves: Sequence[Tensor]) -> None:
        """Point at the tensors of a state."""
        for operation, field, which in self.states:
            setattr(operation, field, leaves[which].data_ptr())
        self.state = state

    def give(self, tensors: Sequence[Tensor]) -> None:
        """Point at given tensors, (batch, count, …) with their last dimension contiguous."""
        for operation, field, which in self.given:
            setattr(operation, field, loader.rows(tensors[which]))


def readable(tensor: Tensor, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> bool:
    """Whether the library may read the memory of ``tensor`` as numbers of that shape and type, side by side."""
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.device.type == "cpu" and tensor.dtype == dtype
    return plain and tensor.shape == torch.Size(shape) and tensor.is_contiguous()
