"""The compiled CPU kernels: a small C library, loaded with ctypes. The installation builds it if there is a compiler.

The library uses neither Python nor PyTorch, so one build serves every version of either. The classes below mirror the
structures of scan.h.
"""

import ctypes
import functools
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbench.errors import one_line

INTERFACE = 3  # version of the library's structures; change both together
FOLDER = Path(__file__).parent
REMEDY = "install a C++ compiler (Debian, Ubuntu: apt install g++), then: pip install --force-reinstall --no-deps"

_int, _pointer = ctypes.c_int64, ctypes.c_void_p


class Rows(ctypes.Structure):
    """A (batch, length, d) array and its strides."""

    _fields_ = (("data", _pointer), ("row", _int), ("time", _int))


def fields(integers: str = "", rows: str = "", pointers: str = "") -> Any:
    """Fields of a structure, by type, from their names."""
    types = (integers, _int), (rows, Rows), (pointers, _pointer)
    return [(name, kind) for names, kind in types for name in names.split()]


class ScanArguments(ctypes.Structure):
    _fields_ = fields("batch length channels state window softplus negative", "x dt B C gate", "A D decays")


class ScanForward(ctypes.Structure):
    _fields_ = (("inputs", ScanArguments), *fields(pointers="y ungated saved carried"))


class ScanBackward(ctypes.Structure):
    _fields_ = (("inputs", ScanArguments), *fields("", "dy", "ungated saved dx ddt dB dC dgate dA dD"))


class ConvArguments(ctypes.Structure):
    _fields_ = fields("batch length channels taps silu", "x", "weight bias taps_first")


class ConvBackward(ctypes.Structure):
    _fields_ = (("inputs", ConvArguments), *fields("", "dy", "dx dweight dbias"))


class DiagonalArguments(ctypes.Structure):
    _fields_ = fields("batch length width complex constant", "a", "initial")


class DiagonalForward(ctypes.Structure):
    _fields_ = (("inputs", DiagonalArguments), *fields("", "b", "h"))


class DiagonalBackward(ctypes.Structure):
    _fields_ = (("inputs", DiagonalArguments), *fields("", "dh", "h da db dinitial"))


class OutOfMemory(MemoryError):
    """The kernels could not allocate their scratch memory."""


@functools.cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    """The library, or None and the reason."""
    wanted = os.environ.get("BACKBENCH_NATIVE", "")
    if wanted == "off":
        return None, "switched off by BACKBENCH_NATIVE=off; unset it"
    found = [Path(wanted)] if wanted else sorted(FOLDER.glob("_native*.so"))
    if not found:
        return None, f"the compiled CPU kernels were not built; {REMEDY} backbench"
    try:
        library = ctypes.CDLL(str(found[-1]))
        if library.backbench_interface() != INTERFACE:
            return None, f"{found[-1]} is of another version; reinstall backbench"
        library.backbench_instruction_set.restype = ctypes.c_char_p
        library.backbench_instruction_set_at.restype = ctypes.c_char_p
        library.backbench_saved_size.restype = _int
        library.backbench_use.argtypes = [ctypes.c_char_p]
        for name in ("scan_forward", "scan_backward", "conv_backward", "diagonal_forward", "diagonal_backward"):
            getattr(library, f"backbench_{name}").argtypes = [_pointer, _int]
        library.backbench_conv_forward.argtypes = [_pointer, _pointer, _int]
    except (OSError, AttributeError) as error:
        return None, f"{found[-1]} cannot be loaded ({one_line(error)}); reinstall backbench"
    return library, ""


def missing() -> str | None:
    """None if the compiled kernels are loaded, else the reason and the remedy."""
    return _load()[1] or None


def library() -> ctypes.CDLL:
    """The loaded library. Raises RuntimeError if it is missing: call :func:`missing` first."""
    found, reason = _load()
    if found is None:
        raise RuntimeError(reason)
    return found


def instruction_sets() -> list[str]:
    """Instruction sets that the library has and this processor supports, the narrowest first; the last one is used."""
    sets: list[str] = []
    while (name := library().backbench_instruction_set_at(len(sets))) is not None:
        sets.append(name.decode())
    return sets


def use(instruction_set: str) -> None:
    """Use one of :func:`instruction_sets`, for tests and measurements."""
    if not library().backbench_use(instruction_set.encode()):
        raise ValueError(f"no instruction set {instruction_set!r} here; known: {', '.join(instruction_sets())}")


def run(name: str, *arguments: object) -> None:
    """Call ``backbench_<name>`` with its structures, and with as many threads as PyTorch uses."""
    if not getattr(library(), f"backbench_{name}")(*arguments, torch.get_num_threads()):
        raise OutOfMemory(f"{name}: no memory for its scratch")


def innermost(tensor: Tensor) -> Tensor:
    """``tensor`` (batch, length, d) with its last dimension contiguous; copied only if it is not."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()


def rows(tensor: Tensor | None) -> Rows:
    """The library's view of a (batch, length, d) tensor that :func:`innermost` returned."""
    return Rows() if tensor is None else Rows(tensor.data_ptr(), tensor.stride(0), tensor.stride(1))


def pointer(tensor: Tensor | None) -> int | None:
    """The address of a contiguous tensor."""
    return None if tensor is None else tensor.data_ptr()
