"""The definition of the diagonal recurrence, to read and to test against."""

import torch
from torch import Tensor


def of_recurrence(channels: int, is_complex: bool = False) -> float:
    """FLOPs per token: a product and a sum for each channel, 2 if it is real and 8 if it is complex."""
    return (8.0 if is_complex else 2.0) * channels


def diagonal_recurrence(a: Tensor, b: Tensor, initial: Tensor) -> Tensor:
    """One token after the other. ``a`` is (batch, length, channels) or (channels,), ``initial`` (batch, channels).

    ``unbind`` splits the tokens once. Indexing inside the loop would make the backward pass quadratic in length.
    """
    h, states = initial, []
    for a_t, b_t in zip(a.expand_as(b).unbind(1), b.unbind(1), strict=True):
        h = a_t * h + b_t
        states.append(h)
    return torch.stack(states, dim=1)
