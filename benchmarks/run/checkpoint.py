"""Checkpoints that are exact and whole: a run that was killed anywhere goes on to the same bits.

Tensors and plain values only, read with ``weights_only``: nothing is ever unpickled.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbench.errors import UserError


class CheckpointError(UserError):
    """A checkpoint that cannot be read or written; says which and what to do. It is never deleted."""


def atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, flush it to disk, and move it into place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except Exception as error:  # a full disk is OSError, torch's RuntimeError or safetensors' own
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"cannot write {path}: {reason}; free some space or choose another --out") from error
    finally:
        with suppress(OSError):  # what went wrong has been said
            temporary.unlink(missing_ok=True)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a cell's folder for this process, and clear what a killed one left half-written.

    Raises:
        CheckpointError: another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)  # the folder itself is locked: no file is left lying about
    except OSError as error:
        raise CheckpointError(f"cannot write {folder}: {error.strerror}; choose another --out") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CheckpointError(f"another process is at work in {folder}; let it finish, or end it") from error
        for leftover in folder.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        yield
    finally:
        os.close(handle)


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors, numbers, text and containers of them."""
    atomically(path, lambda temporary: torch.save(dict(state), temporary))


def load(path: Path) -> dict[str, Any] | None:
    """The state at ``path``; None when there is no such file.

    Raises:
        CheckpointError: the file is truncated or holds anything but tensors and plain values.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises EOFError, RuntimeError, UnpicklingError, … for a broken file
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"checkpoint {path} cannot be read ({reason[:120]}); move it away to train the cell from the start"
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(f"checkpoint {path} does not hold a training state; move it away to start anew")
    return state


def save_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write weights as safetensors, with text metadata."""
    from safetensors.torch import save_file

    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in weights.items()}
    atomically(path, lambda temporary: save_file(tensors, temporary, dict(metadata)))


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """sha256 over names, shapes, types and bytes of the weights, in the order of their names."""
    hasher = hashlib.sha256()
    for name in sorted(weights):
        t = weights[name].detach().cpu().contiguous()
        hasher.update(f"{name} {t.dtype} {tuple(t.shape)};".encode())
        hasher.update(t.reshape(-1).view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()
