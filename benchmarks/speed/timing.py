"""Timed runs in turns, so that a machine that slows down slows every model alike."""

import gc
import time
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import TypeVar

import torch

Key = TypeVar("Key", bound=Hashable)
LEAST = 3  # timed rounds, however slow a run is
Sampler = Callable[[], list[float]]  # one round: seconds of each of its runs


def seconds_of(call: Callable[[], object], device: str | torch.device) -> float:
    """Seconds of one run of ``call``, until the device has finished its work."""
    wait: Callable[[], object] = partial(torch.cuda.synchronize, device) if str(device)[:4] == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - began


def once(call: Callable[[], object], device: str | torch.device) -> Sampler:
    """A round of a single run of ``call``."""
    return lambda: [seconds_of(call, device)]


def interleave(
    samplers: Mapping[Key, Sampler], rounds: int, seconds: float, warm_up: int = 1
) -> dict[Key, tuple[float, ...]]:
    """Seconds of every timed run of each sampler.

    Round robin; each round begins with another sampler. A sampler has ``rounds`` rounds, or fewer once it has used its
    equal share of ``seconds``, but at least ``LEAST``. The first ``warm_up`` rounds of each are dropped.
    """
    for sample in samplers.values():
        for _ in range(warm_up):
            sample()
    names = list(samplers)
    taken: dict[Key, list[float]] = {name: [] for name in names}
    spent = dict.fromkeys(names, 0.0)
    for number in range(rounds):
        start = number % max(1, len(names))
        for name in names[start:] + names[:start]:
            if number >= LEAST and spent[name] >= seconds / len(names):
                continue
            gc.collect()
            gc.disable()  # existing garbage is collected outside the timed run
            try:
                began = time.perf_counter()
                taken[name] += samplers[name]()
                spent[name] += time.perf_counter() - began
            finally:
                gc.enable()
    return {name: tuple(values) for name, values in taken.items()}
