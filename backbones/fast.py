"""Optional methods that make a backbone faster, and the state that it carries from token to token.

The defaults are correct, so a new backbone needs none of them. ``keep`` is a slice of the positions whose outputs are
needed. Override a method to skip the work for the others.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

State: TypeAlias = Any  # nested tuples, lists and dicts of tensors, each batch first
ALL, LAST = slice(None), slice(-1, None)  # positions of a sequence


def map_state(fn: Callable[..., Any], *states: State) -> State:
    """Apply ``fn`` to corresponding tensors of equally nested ``states``. The result is nested alike."""
    first = states[0]
    if first is None or isinstance(first, Tensor):
        return None if first is None else fn(*states)
    if isinstance(first, dict):
        return {key: map_state(fn, *(state[key] for state in states)) for key in first}
    if isinstance(first, tuple | list):
        items = [map_state(fn, *parts) for parts in zip(*states, strict=True)]
        return type(first)(*items) if hasattr(first, "_fields") else type(first)(items)
    raise TypeError(f"a state holds tensors in tuples, lists and dicts, not {type(first).__name__}")


def select_rows(state: State, index: Tensor) -> State:
    """The rows ``index`` (integers or a mask, (batch,)) of every tensor of ``state``."""
    return map_state(lambda leaf: leaf[index], state)


def state_bytes(backbone: Any) -> int:
    """Bytes of the tensors that a backbone carries for one environment, in all layers, after a token."""
    sizes: list[int] = []
    training = backbone.training
    backbone.eval()  # a step in training could draw random numbers, or need more than one row
    with torch.no_grad():
        like = next(backbone.parameters(), torch.empty(0))
        _, state = backbone.step(like.new_zeros(1, backbone.spec.d_model), backbone.initial_state(1))
    backbone.train(training)
    map_state(lambda leaf: sizes.append(leaf.nbytes), state)
    return sum(sizes)


class FastCausal(nn.Module):
    """For mixers and backbones. Acting keeps what `project` returns from window to window."""

    def forward_at(self, x: Tensor, keep: slice) -> Tensor:
        """``forward(x)[:, keep]``, (batch, kept, d_model). Default: compute everything, then slice."""
        y: Tensor = self(x)
        if y.shape != x.shape:  # slicing would hide it
            name = type(self).__name__
            raise RuntimeError(f"{name}.forward returned {tuple(y.shape)} for {tuple(x.shape)}; return the same size")
        return y[:, keep]

    def extend(self: Any, x: Tensor, state: State, keep: slice = ALL) -> tuple[Tensor, State]:
        """Several tokens, (batch, count, d_model): the outputs of `step` at ``keep``, and the state. Default: steps."""
        columns = []
        for x_t in x.unbind(1):
            y_t, state = self.step(x_t, state)
            columns.append(y_t)
        return torch.stack(columns[keep], 1), state

    def project(self, x: Tensor) -> State:
        """The part of `forward` that depends on each token alone: tensors (batch, length, …). Default: the tokens."""
        return x

    def mix(self, projected: State, keep: slice = ALL) -> Tensor:
        """The rest of `forward`: ``mix(project(x), keep)`` is ``forward(x)[:, keep]``. Override both or neither."""
        return self.forward_at(projected, keep)
