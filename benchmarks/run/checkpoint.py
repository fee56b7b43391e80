"""Checkpoints that are exact and complete: a run that was killed anywhere ends with the bits of one that was not.

They contain only tensors and plain values and are read with ``weights_only``, so nothing is ever unpickled.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbench.errors import UserError, first_line
from backbench.files import clear_leftovers, locked, write_whole


class CheckpointError(UserError):
    """A checkpoint that cannot be read or written; says which and what to do. It is never deleted."""


def write(path: Path, content: Callable[[Path], object]) -> None:
    """``write_whole`` with a ``CheckpointError`` if the file cannot be written."""
    try:
        write_whole(path, content)
    except Exception as error:  # for a full disk torch raises RuntimeError, safetensors its own class
        reason = getattr(error, "strerror", None) or first_line(error)
        raise CheckpointError(f"cannot write {path}: {reason}; free some space or choose another --out") from error


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a cell's folder for this process, and remove what a killed process left half-written.

    Raises ``CheckpointError`` if another process holds it, or it cannot be written.
    """
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder, wait=False))  # the folder itself: no lock file is left behind
        except BlockingIOError as error:
            raise CheckpointError(f"another process is at work in {folder}; let it finish, or end it") from error
        except OSError as error:
            raise CheckpointError(f"cannot write {folder}: {error.strerror}; choose another --out") from error
        clear_leftovers(folder)
        yield


def load(path: Path) -> dict[str, Any] | None:
    """The state at ``path``; None if there is no such file.

    Raises ``CheckpointError`` if it is truncated, or contains anything but tensors and plain values.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises EOFError, RuntimeError, UnpicklingError, … for a broken file
        said = f"checkpoint {path} cannot be read ({first_line(error, 120)})"
        raise CheckpointError(f"{said}; move it away to train the cell from the start") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"checkpoint {path} does not hold a training state; move it away to start over")
    return state


def save_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write weights as safetensors, with text metadata."""
    from safetensors.torch import save_file

    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in weights.items()}
    write(path, lambda temporary: save_file(tensors, temporary, dict(metadata)))


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """sha256 over names, shapes, types and bytes of the weights, in the order of their names."""
    hasher = hashlib.sha256()
    for name in sorted(weights):
        t = weights[name].detach().cpu().contiguous()
        hasher.update(f"{name} {t.dtype} {tuple(t.shape)};".encode())
        hasher.update(t.reshape(-1).view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()
