"""A file that crashes, floods or stops a library does so in a child process, and becomes one line."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from backbench.benchmarks.data import trial as trial_module
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.trial import trial

FILE, MB = Path("x.hdf5"), 1 << 20


def fail() -> None:
    raise OSError("the caller meets it")


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda: ctypes.string_at(0), r"x\.hdf5 crashes the library that reads it \(signal 11\)"),
        (lambda: np.ones(2**30, np.uint8), r"x\.hdf5 takes too much memory to read"),
        (lambda: time.sleep(60), r"x\.hdf5 takes too long to read"),
    ],
)
def test_what_harms_the_child_is_one_line(
    monkeypatch: pytest.MonkeyPatch, read: Callable[[], object], said: str
) -> None:
    monkeypatch.setattr(trial_module, "SECONDS", 1)
    with pytest.raises(DataError, match=said):
        trial(FILE, 0, 64 * MB, read)


@pytest.mark.parametrize("read", [lambda: None, fail])
def test_what_only_raises_is_left_to_the_caller(read: Callable[[], object]) -> None:
    trial(FILE, 0, 64 * MB, read)
