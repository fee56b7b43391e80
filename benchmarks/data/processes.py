"""Processes: environment variables, one thread for linear algebra, and a clean exit on SIGTERM."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set environment variables in this block."""
    before = {name: os.environ[name] for name in variables if name in os.environ}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)
        os.environ.update(before)


def one_thread() -> AbstractContextManager[None]:
    """Processes started in this block use one thread: as fast for small matrices, and the same bits everywhere."""
    return environment(**dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))


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
