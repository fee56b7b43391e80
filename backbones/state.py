"""The state that a backbone carries from token to token, and positions of a sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor

# Nested tuples, lists and dicts of tensors, each batch first.
State: TypeAlias = Any

# Positions of a sequence.
ALL = slice(None)
LAST = slice(-1, None)


def map_state(fn: Callable[..., Any], *states: State) -> State:
    """Apply ``fn`` to corresponding tensors of equally nested ``states``. The result is nested alike."""
    first = states[0]
    if first is None:
        return None
    if isinstance(first, Tensor):
        return fn(*states)
    if isinstance(first, dict):
        return {key: map_state(fn, *(state[key] for state in states)) for key in first}
    if isinstance(first, tuple | list):
        items = [map_state(fn, *parts) for parts in zip(*states, strict=True)]
        return type(first)(*items) if hasattr(first, "_fields") else type(first)(items)
    raise TypeError(f"a state holds tensors in tuples, lists and dicts, not {type(first).__name__}")


def select_rows(state: State, index: Tensor) -> State:
    """The rows ``index`` (integers or a mask, (batch,)) of every tensor of ``state``."""
    return map_state(lambda leaf: leaf[index], state)
