"""Measure the loader of state vectors: opening a set, memory, and batches, against Minari and a plain loop.

Run ``python tools/vector_loading.py``. The data are synthetic, of any size, in a store of their own.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
import torch
from loading import CPU, Goal, add_options, fresh_process, limits, machine, memory_mb, require_sizes, run, show
from numpy.typing import NDArray
from torch import Tensor

from backbench.agents.agent import Windows
from backbench.benchmarks.data import store
from backbench.benchmarks.data.store import flat
from backbench.benchmarks.data.trajectories import Episode, Trajectories
from backbench.benchmarks.data.windows import WindowSampler
from backbench.benchmarks.speed.timing import Sampler, interleave, once

ENV, STATE, ACTION, SEED = "HalfCheetah-v5", 17, 6, 0
SHORTEST, LONGEST = 100, 1000  # steps of an episode
SCALE = 1000.0  # of returns
BATCHES = 100  # of the memory measurement
ROW = 20  # batches of a timed round
GOALS = {"open": Goal(10.0, "at least"), "memory": Goal(1.5, "below"), "batch": Goal(40.0, "at least")}


def synthetic(steps: int, seed: int = SEED) -> Iterator[Episode]:
    """Episodes with ``steps`` in total. Most have 1,000 steps, the others fewer. float32, as in D4RL's files."""
    rng = np.random.default_rng(seed)
    while steps:
        length = LONGEST if rng.random() < 0.7 else int(rng.integers(SHORTEST, LONGEST))
        length = min(length, steps)
        steps -= length
        yield Episode(
            observations=rng.standard_normal((length + 1, STATE)).astype(np.float32),
            actions=rng.uniform(-1, 1, (length, ACTION)).astype(np.float32),
            rewards=rng.uniform(-1, 8, length).astype(np.float32).astype(np.float64),
            terminated=length < LONGEST,
        )


def prepared(steps: int) -> str:
    """Id of the synthetic set with ``steps`` steps, generated if needed. DataError: it cannot be written."""
    name = f"vectors/synthetic-{steps}-v0"
    if not store.exists(name):
        store.write(name, list(synthetic(steps)), ENV, {"description": "Synthetic vectors to time loading on."})
    return name


class OriginalLoader:
    """The loader of Decision Transformer's public code for Gym (arXiv:2106.01345), restated: item by item.

    Windows are padded on the left: actions with -10, ends with 2, everything else with 0.
    """

    def __init__(self, data: Trajectories, context: int, batch_size: int) -> None:
        self.context, self.batch_size = context, batch_size
        assert isinstance(data.states, np.ndarray), "no pixels"
        self.mean, self.std = data.state_statistics()
        ended = np.zeros(len(data.rewards), dtype=bool)
        ended[data.offsets[1:] - 1] = data.terminated
        arrays = (np.split(array, data.offsets[1:-1]) for array in (data.states, data.actions, data.rewards, ended))
        self.episodes = list(zip(*arrays, strict=True))
        self.share = data.lengths / data.lengths.sum()
        self.random = np.random.default_rng(SEED)

    def sample(self) -> list[tuple[int, int]]:
        """(episode, first step) of each item: episodes in proportion to their length, starts uniformly."""
        chosen = self.random.choice(len(self.share), size=self.batch_size, replace=True, p=self.share)
        return [(int(e), int(self.random.integers(len(self.episodes[e][2])))) for e in chosen]

    def batch(self, items: Sequence[tuple[int, int]]) -> tuple[Tensor, ...]:
        """Normalised states, actions, rewards, ends, scaled returns-to-go, timesteps, mask: (batch, K, …) each."""
        columns = zip(*(self._item(*item) for item in items), strict=True)
        types = (torch.float32, torch.float32, torch.float32, torch.long, torch.float32, torch.long, torch.float32)
        return tuple(torch.from_numpy(np.concatenate(c)).to(dtype) for c, dtype in zip(columns, types, strict=True))

    def _item(self, episode: int, start: int) -> tuple[NDArray[Any], ...]:
        rows = slice(start, start + self.context)
        states, actions, rewards, ended = self.episodes[episode]
        to_go = _sums_to_the_end(rewards[start:])[: self.context]
        missing = self.context - len(to_go)
        return (
            (_left(states[rows], missing, 0.0) - self.mean) / self.std,
            _left(actions[rows], missing, -10.0),
            _left(rewards[rows, None], missing, 0.0),
            _left(ended[rows], missing, 2),
            _left(to_go[:, None], missing, 0.0) / SCALE,
            _left(np.arange(start, start + len(to_go)), missing, 0),
            _left(np.ones(len(to_go)), missing, 0.0),
        )


def _left(array: NDArray[Any], missing: int, filler: float) -> NDArray[Any]:
    """(1, missing + n, …): ``missing`` rows of ``filler``, then the array's n rows."""
    return np.concatenate([np.full((missing, *array.shape[1:]), filler), array], axis=0)[None]


def _sums_to_the_end(rewards: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of rewards from each step to the last, step by step."""
    sums = np.zeros_like(rewards)
    sums[-1] = rewards[-1]
    for step in reversed(range(len(rewards) - 1)):
        sums[step] = rewards[step] + 1.0 * sums[step + 1]  # the discount
    return sums


def normalised(windows: Windows, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """States and returns-to-go as the original loader returns them. Those of padding are unused."""
    return (windows.states - mean).div_(std), windows.returns_to_go / SCALE


def assert_equal(sampler: WindowSampler, original: OriginalLoader, items: Sequence[tuple[int, int]]) -> None:
    """Both loaders make the same windows, except for padding. AssertionError names what differs."""
    starts = [sum(len(rewards) for _, _, rewards, _ in original.episodes[:e]) + start for e, start in items]
    windows = sampler.windows(torch.tensor(starts))
    states, to_go = normalised(windows, torch.from_numpy(original.mean), torch.from_numpy(original.std))
    theirs = original.batch(items)
    there = theirs[6].bool()
    assert torch.equal(windows.mask.sum(1), there.sum(1)), "the windows of the two loaders are not as long"
    # The real steps of each window in order, so that the position of the padding does not matter.
    pairs = {
        "actions": (windows.actions[windows.mask], theirs[1][there], 0.0),
        "timesteps": (windows.timesteps[windows.mask], theirs[5][there], 0.0),
        "states": (states[windows.mask], theirs[0][there], 1e-6),  # they normalise in float64
        "returns-to-go": (to_go[windows.mask], theirs[4][there].squeeze(-1), 1e-6),  # summed in another order
    }
    for name, (one, other, off) in pairs.items():
        assert torch.allclose(one, other, rtol=off, atol=off), f"{name} of the two loaders differ"


def in_a_row(call: Callable[[], object]) -> Sampler:
    """A round of ``ROW`` runs of ``call``, so that a run finds its own caches."""
    return lambda: [once(call, CPU)()[0] for _ in range(ROW)]


def child(way: str, name: str, batch: int, context: int) -> dict[str, float]:
    """The fresh process: seconds of a way to load the set, and its peak in 10^6 bytes above the imports.

    Ways: ``minari`` iterates over its episodes, ``cold`` and ``warm`` read the set, ``sampling`` also samples batches.
    """
    import minari

    if way == "cold":
        (store.path_of(name) / flat.FILE).unlink(missing_ok=True)
    before, began = memory_mb()["now"], time.perf_counter()
    if way == "minari":
        for e in minari.load_dataset(name).iterate_episodes():
            assert len(e.observations) == len(e.actions) + 1 == len(e.rewards) + 1
    else:
        data = store.read(name)
        if way == "sampling":
            sampler = WindowSampler(data, context, batch, SEED, CPU)
            for number in range(BATCHES):
                sampler.batch(number)
    return {"seconds": time.perf_counter() - began, "grown_mb": memory_mb()["peak"] - before}


def measure(steps: int, batch: int, context: int, repeats: int) -> dict[str, Any]:
    """All figures, as ``--json`` prints them. UserError: a setting is out of range."""
    require_sizes({"steps": steps, "batch": batch, "context": context, "repeats": repeats})
    name = prepared(steps)
    sizes = {"name": name, "batch": batch, "context": context}
    opened: dict[str, list[dict[str, float]]] = {"minari": [], "cold": [], "warm": []}
    for number in range(repeats + 1):
        for way, taken in opened.items():  # warm opens the file that cold leaves
            found = fresh_process(__file__, way, sizes)
            taken += [found] if number else []
    grown = fresh_process(__file__, "sampling", sizes)["grown_mb"]
    seconds = {way: float(np.median([one["seconds"] for one in taken])) for way, taken in opened.items()}

    data = store.read(name)
    assert data.digest == store.load(name).digest, "a warm store opens something else"
    sampler, original = WindowSampler(data, context, batch, SEED, CPU), OriginalLoader(data, context, batch)
    ends = [(e, int(length) - 1) for e, length in enumerate(data.lengths[:3])]
    assert_equal(sampler, original, [*original.sample(), *ends, (0, 0), (len(data.lengths) - 1, 0)])
    numbers, (mean, std) = count(), map(torch.from_numpy, data.state_statistics())
    calls: dict[str, Callable[[], object]] = {
        "original": lambda: original.batch(original.sample()),
        "ours": lambda: sampler.batch(next(numbers)),
        "ours, normalised": lambda: normalised(sampler.batch(next(numbers)), mean, std),
    }
    batches = interleave({way: in_a_row(call) for way, call in calls.items()}, 3 * repeats, float("inf"))
    medians = {way: float(np.median(values)) for way, values in batches.items()}
    raw = sum(array.nbytes for array in (data.states, data.actions, data.rewards) if isinstance(array, np.ndarray))
    return {
        **{"steps": steps, "episodes": len(data.lengths), "batch": batch, "context": context},
        "open": opened,
        "seconds": seconds,
        "batches": batches,
        "memory_mb": {"raw": raw / 1e6, "sampling": grown, "cold": max(one["grown_mb"] for one in opened["cold"])},
        "ratios": {
            "open": seconds["minari"] / seconds["warm"],
            "memory": grown / (raw / 1e6),
            "batch": medians["original"] / medians["ours"],
            "batch, normalised": medians["original"] / medians["ours, normalised"],
        },
        "goals": limits(GOALS),
        **machine(),
    }


def show_figures(found: dict[str, Any]) -> None:
    """Print the figures as a table, with the goals."""
    ratios, memory, seconds = found["ratios"], found["memory_mb"], found["seconds"]
    rows: list[tuple[str, float, str, Goal | None]] = [
        ("Minari's episodes, one after the other", 1000 * seconds["minari"], "ms", None),
        ("first reading", 1000 * seconds["cold"], "ms", None),
        ("second reading", 1000 * seconds["warm"], "ms", None),
        ("Minari's to the second", ratios["open"], "times", GOALS["open"]),
        ("raw arrays", memory["raw"], "MB", None),
        ("first reading, peak memory", memory["cold"], "MB", None),
        (f"second reading and {BATCHES} batches, peak memory", memory["sampling"], "MB", None),
        ("of the raw arrays", ratios["memory"], "times", GOALS["memory"]),
        *((f"a batch, {way}", 1000 * float(np.median(v)), "ms", None) for way, v in found["batches"].items()),
        ("original to ours", ratios["batch"], "times", GOALS["batch"]),
        ("original to ours, normalised", ratios["batch, normalised"], "times", None),
    ]
    heading = (
        f"{found['steps']:,} steps in {found['episodes']:,} episodes, batches of {found['batch']} windows of "
        f"{found['context']} steps, {found['threads']} threads. Memory is above that of the imports."
    )
    show(heading, rows)


def main(words: Sequence[str] | None = None) -> int:
    """The command; its exit status: 2 for a mistake of the user."""
    parser = argparse.ArgumentParser(prog="python tools/vector_loading.py", description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000, help="steps of the synthetic set")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    add_options(parser, batch=64, context=20)
    asked = parser.parse_args(words)
    if asked.measured:  # the fresh process
        print(json.dumps(child(asked.measured, asked.name, asked.batch, asked.context)))
        return 0
    found = run("vectors", asked.store, lambda: measure(asked.steps, asked.batch, asked.context, asked.repeats))
    if found is None:
        return 2
    if asked.json:
        print(json.dumps(found, indent=1, sort_keys=True))
    else:
        show_figures(found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
