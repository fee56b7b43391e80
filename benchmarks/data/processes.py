"""Processes: environment variables, threads for linear algebra, and a clean exit on SIGTERM."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, ModuleType

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


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


def keep_bytecode() -> None:
    """Keep what Python compiles, whatever PYTHONDONTWRITEBYTECODE says: each cell would compile torch again."""
    sys.dont_write_bytecode = False


@contextmanager
def plain_workers() -> Iterator[None]:
    """Processes started in this block use one thread: as fast for small matrices, and the same bits everywhere.

    They do not import the main script, as ``spawn`` would: a script without a guard would run again in each of them.
    So nothing that is defined in the main script can be sent to them.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        with environment(**ONE_THREAD):
            yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def steady(threads: int, device: str = "cpu") -> Iterator[None]:
    """Torch computes in this block as in a cell: with so many threads and, on a CPU, deterministically."""
    import torch

    before, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(device == "cpu" or strict)
        yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(strict)


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
