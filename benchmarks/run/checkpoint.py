"""Checkpoints that are exact and complete: a run that was killed anywhere ends with the bits of one that was not.

They contain only tensors and plain values and are read with ``weights_only``, so nothing is ever unpickled. Each has a
digest of its content, so that a damaged one is an error and never a result.
"""

import hashlib
import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbench import claims, reading
from backbench.claims import Claim
from backbench.errors import UserError, first_line
from backbench.files import write_whole

STATE, LAST, BEST = "state.pt", "last.safetensors", "best.safetensors"
MOST = 64 * 1024 * reading.MB  # bytes of a checkpoint, which are read at once
_MAGIC = b"backbench checkpoint, sha256 "
_HEADER = len(_MAGIC) + 64 + 1
_AGAIN = "move it away to train the cell from the start"


class CheckpointError(UserError):
    """A checkpoint that cannot be read or written; says which and what to do. It is never deleted."""


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a cell, for the process that has the claim on it.

    It reads those of all epochs and writes into the folder of its own. A process that lost its claim without notice
    still writes complete files, which nobody takes for another epoch's.
    """

    claim: Claim

    def load(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest state and its path; None if there is none. Raises as ``load`` does, and ``claims.Lost``.

        The weights of the best evaluation so far belong to the state, so they are copied into this epoch.
        """
        self.claim.disk.fetch_newest(self.claim.home, (STATE, BEST), sound)
        for folder in reversed(claims.epochs(self.claim.home)):
            if (state := load(folder / STATE)) is not None:
                if folder != self.claim.folder and (best := folder / BEST).exists():
                    with self.claim.writing():
                        write(self.claim.folder / BEST, reading.content(best, MOST))
                    self.claim.disk.push(self.claim.folder / BEST)
                return folder / STATE, state
        return None

    def save(self, content: Mapping[str, Any]) -> None:
        """Write a state, and remove those of earlier epochs. Raises ``claims.Lost`` or ``CheckpointError``."""
        with self.claim.writing():
            save(self.claim.folder / STATE, content)
        if self.claim.disk.push(self.claim.folder / STATE):
            self.claim.prune(STATE)  # weights stay: a late owner's record may be first

    def save_weights(self, name: str, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        """Write weights as safetensors, with text metadata. Raises as ``save`` does."""
        with self.claim.writing():
            save_weights(self.claim.folder / name, weights, metadata)
        self.claim.disk.push(self.claim.folder / name)


def write(path: Path, content: bytes | Callable[[Path], object]) -> None:
    """``write_whole`` with a ``CheckpointError`` if the file cannot be written."""
    try:
        write_whole(path, content)
    except Exception as error:  # for a full disk torch raises RuntimeError, safetensors its own class
        reason = getattr(error, "strerror", None) or first_line(error)
        raise CheckpointError(f"cannot write {path}: {reason}; free some space or choose another --out") from error


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values, with their digest in the first line of the file."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    packed = buffer.getbuffer()
    write(path, _MAGIC + hashlib.sha256(packed).hexdigest().encode() + b"\n" + packed)


def sound(text: bytes) -> bool:
    """Whether the content of a checkpoint has the digest in its first line."""
    return text[:_HEADER] == _MAGIC + hashlib.sha256(text[_HEADER:]).hexdigest().encode() + b"\n"


def load(path: Path) -> dict[str, Any] | None:
    """The state at ``path``; None if there is no such file.

    Raises ``CheckpointError`` if it is damaged, or contains anything but tensors and plain values. It takes no more
    memory than a small multiple of the file's size.
    """
    try:
        text = reading.content(path, MOST)
    except reading.ReadingError as error:
        if error.missing:
            return None
        raise CheckpointError(f"checkpoint {error}; {_AGAIN}") from error
    try:
        if not sound(text):
            raise ValueError("its content does not have the digest in its first line")
        packed = text[_HEADER:]
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:  # torch never compresses; what expands is not its own
            if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                raise ValueError("a part is compressed")
        try:
            state = torch.load(io.BytesIO(packed), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise ValueError("it holds more than tensors and plain values") from error
        if not isinstance(state, dict):
            raise ValueError("it does not hold a training state")
    except Exception as error:  # torch raises EOFError, RuntimeError, UnpicklingError, … for a broken file
        raise CheckpointError(f"checkpoint {path} cannot be read ({first_line(error, 120)}); {_AGAIN}") from error
    return state


def save_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write weights as safetensors, with text metadata and their digest."""
    from safetensors.torch import save_file

    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in weights.items()}
    about = {**metadata, "sha256": weights_digest(tensors)}
    write(path, lambda temporary: save_file(tensors, temporary, about))


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """sha256 over names, shapes, types and bytes of the weights, in the order of their names."""
    hasher = hashlib.sha256()
    for name in sorted(weights):
        t = weights[name].detach().cpu().contiguous()
        hasher.update(f"{name} {t.dtype} {tuple(t.shape)};".encode())
        hasher.update(t.reshape(-1).view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()
