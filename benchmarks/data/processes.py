"""Processes: one thread for linear algebra, and a clean exit on SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def one_thread() -> Iterator[None]:
    """Processes started in this block compute with one thread.

    Small matrices are as fast, and results have the same bits on every machine.
    """
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _leave(number: int, frame: FrameType | None) -> None:
    """Signal handler: exit through ``finally`` blocks, so that no half-made data set stays behind."""
    sys.exit(128 + number)


def in_worker() -> None:
    """Prepare a worker process: only its parent ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group
    signal.signal(signal.SIGTERM, _leave)


@contextmanager
def leaving_on_sigterm() -> Iterator[None]:
    """In this block SIGTERM exits through ``finally`` blocks, as Ctrl-C does. Main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
