"""Timed runs, one subject after the other and over again, so that a machine that slows down slows all of them."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch

LEAST = 3  # timed rounds of a subject, however slow it is
Sampler = Callable[[], list[float]]  # one round of a subject: seconds of each of its runs


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def without_collector() -> Iterator[None]:
    """No garbage collection inside: what is there to collect is collected before."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def once(call: Callable[[], object], device: torch.device) -> Sampler:
    """A round of a single run of ``call``."""

    def sample() -> list[float]:
        synchronise(device)
        began = time.perf_counter()
        call()
        synchronise(device)
        return [time.perf_counter() - began]

    return sample


def interleave(
    subjects: Mapping[str, Sampler], rounds: int, seconds: float, warm_up: int = 1
) -> dict[str, tuple[float, ...]]:
    """Seconds of every timed run of each subject.

    Round robin; each round begins with another subject. A subject has ``rounds`` rounds, or fewer once it has used its
    equal share of ``seconds``, but at least ``LEAST``. The first ``warm_up`` rounds of each are dropped.
    """
    for sample in subjects.values():
        for _ in range(warm_up):
            sample()
    names = list(subjects)
    taken: dict[str, list[float]] = {name: [] for name in names}
    spent = dict.fromkeys(names, 0.0)
    for number in range(rounds):
        start = number % max(1, len(names))
        for name in names[start:] + names[:start]:
            if number >= LEAST and spent[name] >= seconds / len(names):
                continue
            with without_collector():
                began = time.perf_counter()
                taken[name] += subjects[name]()
                spent[name] += time.perf_counter() - began
    return {name: tuple(values) for name, values in taken.items()}
