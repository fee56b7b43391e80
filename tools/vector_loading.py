"""The loader of state vectors, measured: opening a set beside Minari's way, memory, and batches beside a plain loop.

Run as ``python tools/vector_loading.py``. The data are synthetic, of any size, in a store of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from frame_loading import CPU, resident_mb
from numpy.typing import NDArray
from torch import Tensor

from backbench.agents.agent import Windows
from backbench.benchmarks.data import store
from backbench.benchmarks.data.store import flat
from backbench.benchmarks.data.trajectories import Episode, Trajectories
from backbench.benchmarks.data.windows import WindowSampler
from backbench.benchmarks.run import provenance
from backbench.benchmarks.speed.timing import Sampler, interleave, once
from backbench.errors import UserError, require

ENV, STATE, ACTION, SEED = "HalfCheetah-v5", 17, 6, 0
SHORTEST, LONGEST = 100, 1000  # steps of an episode
SCALE = 1000.0  # of returns
BATCHES = 100  # of the measurement of memory
ROW = 20  # batches that are timed one after the other
GOALS = {"open": 10.0, "memory": 1.5, "batch": 40.0}


def synthetic(steps: int, seed: int = SEED) -> Iterator[Episode]:
    """Episodes of ``steps`` in all: most of them of 1,000 steps, the others shorter; float32, as D4RL's files are."""
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
    """The id of the synthetic set of so many steps, made if it is not there. DataError if it cannot be written."""
    name = f"vectors/synthetic-{steps}-v0"
    if not store.exists(name):
        store.write(name, list(synthetic(steps)), ENV, {"description": "Synthetic vectors to time loading on."})
    return name


class OriginalLoader:
    """The way of Decision Transformer's public code for Gym (arXiv:2106.01345), restated: item by item.

    Windows are padded on the left, actions with -10, ends with 2, and everything else with 0.
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

    def draws(self) -> list[tuple[int, int]]:
        """(episode, first step) of each item: episodes in proportion to their length, starts uniformly."""
        chosen = self.random.choice(len(self.share), size=self.batch_size, replace=True, p=self.share)
        return [(int(e), int(self.random.integers(len(self.episodes[e][2])))) for e in chosen]

    def batch(self, draws: Sequence[tuple[int, int]]) -> tuple[Tensor, ...]:
        """Normalised states, actions, rewards, ends, scaled returns-to-go, timesteps, mask: (batch, K, …) each."""
        parts = zip(*(self._item(*draw) for draw in draws), strict=True)
        types = (torch.float32, torch.float32, torch.float32, torch.long, torch.float32, torch.long, torch.float32)
        return tuple(torch.from_numpy(np.concatenate(p)).to(dtype) for p, dtype in zip(parts, types, strict=True))

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
    """(1, missing + n, …): the array's n rows after ``missing`` ones of ``filler``."""
    return np.concatenate([np.full((missing, *array.shape[1:]), filler), array], axis=0)[None]


def _sums_to_the_end(rewards: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum from each step to the last, step by step."""
    sums = np.zeros_like(rewards)
    sums[-1] = rewards[-1]
    for step in reversed(range(len(rewards) - 1)):
        sums[step] = rewards[step] + 1.0 * sums[step + 1]  # the discount
    return sums


def normalised(windows: Windows, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """States and returns-to-go as the originals' way hands them out; those of padding are of no use."""
    return (windows.states - mean).div_(std), windows.returns_to_go / SCALE


def assert_equal(sampler: WindowSampler, original: OriginalLoader, draws: Sequence[tuple[int, int]]) -> None:
    """Both make the same windows of these draws, padding aside; AssertionError with what differs."""
    starts = [sum(len(rewards) for _, _, rewards, _ in original.episodes[:e]) + start for e, start in draws]
    windows = sampler.windows(torch.tensor(starts))
    states, to_go = normalised(windows, torch.from_numpy(original.mean), torch.from_numpy(original.std))
    theirs = original.batch(draws)
    there = theirs[6].bool()
    assert torch.equal(windows.mask.sum(1), there.sum(1)), "the windows of the two ways are not as long"
    # Each window's real steps in order, window by window: the same rows, wherever the padding is.
    pairs = {
        "actions": (windows.actions[windows.mask], theirs[1][there], 0.0),
        "timesteps": (windows.timesteps[windows.mask], theirs[5][there], 0.0),
        "states": (states[windows.mask], theirs[0][there], 1e-6),  # they normalise in float64
        "returns-to-go": (to_go[windows.mask], theirs[4][there].squeeze(-1), 1e-6),  # summed in another order
    }
    for name, (one, other, off) in pairs.items():
        assert torch.allclose(one, other, rtol=off, atol=off), f"{name} of the two ways differ"


def in_a_row(call: Callable[[], object]) -> Sampler:
    """A round of ``ROW`` runs of ``call``: each one alone would be timed with the caches that others left."""

    return lambda: [once(call, CPU)()[0] for _ in range(ROW)]


def child(way: str, name: str, batch: int, context: int) -> dict[str, float]:
    """Seconds that a way takes in this fresh process, and by how many 10^6 bytes its peak is above the imports.

    The ways: minari goes through its episodes, cold and warm read the set, sampling draws batches besides.
    """
    import minari

    if way == "cold":
        (store.path_of(name) / flat.FILE).unlink(missing_ok=True)
    before, began = resident_mb()["now"], time.perf_counter()
    if way == "minari":
        for e in minari.load_dataset(name).iterate_episodes():
            assert len(e.observations) == len(e.actions) + 1 == len(e.rewards) + 1
    else:
        data = store.read(name)
        if way == "sampling":
            sampler = WindowSampler(data, context, batch, SEED, CPU)
            for number in range(BATCHES):
                sampler.batch(number)
    return {"seconds": time.perf_counter() - began, "grown_mb": resident_mb()["peak"] - before}


def _in_fresh_process(way: str, name: str, batch: int, context: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--way", way, "--name", name]
    command += ["--batch", str(batch), "--context", str(context)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        said = (done.stderr.strip() or "the process ended").splitlines()[-1]
        raise UserError(f"{way} could not be measured: {said}")
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def measure(steps: int, batch: int, context: int, repeats: int) -> dict[str, Any]:
    """Everything, as ``--json`` prints it. UserError for settings out of range."""
    for flag, value in (("steps", steps), ("batch", batch), ("context", context), ("repeats", repeats)):
        require(value >= 1, f"--{flag} {value}: give at least 1")
    name = prepared(steps)
    opened: dict[str, list[dict[str, float]]] = {"minari": [], "cold": [], "warm": []}
    for number in range(repeats + 1):
        for way, taken in opened.items():  # cold leaves what warm opens
            found = _in_fresh_process(way, name, batch, context)
            taken += [found] if number else []
    grown = _in_fresh_process("sampling", name, batch, context)["grown_mb"]
    seconds = {way: float(np.median([one["seconds"] for one in taken])) for way, taken in opened.items()}

    data = store.read(name)
    assert data.digest == store.load(name).digest, "a warm store opens something else"
    sampler, original = WindowSampler(data, context, batch, SEED, CPU), OriginalLoader(data, context, batch)
    ends = [(e, int(length) - 1) for e, length in enumerate(data.lengths[:3])]
    assert_equal(sampler, original, [*original.draws(), *ends, (0, 0), (len(data.lengths) - 1, 0)])
    numbers, (mean, std) = count(), map(torch.from_numpy, data.state_statistics())
    calls: dict[str, Callable[[], object]] = {
        "original": lambda: original.batch(original.draws()),
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
        "goals": GOALS,
        **{"threads": torch.get_num_threads(), "packages": provenance.packages()},
        "hardware": provenance.hardware(None).model_dump(),
    }


def show(found: dict[str, Any]) -> None:
    """The figures as a table, with the goals beside them."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", "measured", "goal", box=None, pad_edge=False)

    def row(name: str, value: float, unit: str, goal: str = "") -> None:
        said = ""
        if goal:
            limit, most = GOALS[goal], goal == "memory"
            met = value < limit if most else value >= limit
            said = f"{'below' if most else 'at least'} {limit:g}: {'met' if met else 'missed'}"
        table.add_row(name, f"{value:,.3g} {unit}" if value < 100 else f"{value:,.0f} {unit}", said)

    ratios, memory = found["ratios"], found["memory_mb"]
    names = {"minari": "Minari's episodes, one after the other", "cold": "first reading", "warm": "second reading"}
    for way, name in names.items():
        row(name, 1000 * found["seconds"][way], "ms")
    row("Minari's to the second", ratios["open"], "times", "open")
    row("raw arrays", memory["raw"], "MB")
    row("first reading, memory at its peak", memory["cold"], "MB")
    row(f"second reading and {BATCHES} batches, memory at its peak", memory["sampling"], "MB")
    row("of the raw arrays", ratios["memory"], "times", "memory")
    for way, values in found["batches"].items():
        row(f"a batch, {way}", 1000 * float(np.median(values)), "ms")
    row("original to ours", ratios["batch"], "times", "batch")
    row("original to ours, normalised", ratios["batch, normalised"], "times")
    said = (
        f"{found['steps']:,} steps in {found['episodes']:,} episodes, batches of {found['batch']} windows of "
        f"{found['context']} steps, {found['threads']} threads; memory is over that of the imports"
    )
    Console().print(said, table, sep="\n")


def main(words: Sequence[str] | None = None) -> int:
    """The command; its exit status: 2 for a mistake of the user's."""
    parser = argparse.ArgumentParser(prog="python tools/vector_loading.py", description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000, help="steps of the synthetic set")
    parser.add_argument("--batch", type=int, default=64, help="windows in a batch")
    parser.add_argument("--context", type=int, default=20, help="K, steps in a window")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--store", type=Path, help="keep the set in this folder; default: a temporary one")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--name", help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    try:
        if asked.way:
            print(json.dumps(child(asked.way, asked.name, asked.batch, asked.context)))
            return 0
        with tempfile.TemporaryDirectory() as temporary:
            os.environ["MINARI_DATASETS_PATH"] = str(asked.store or temporary)
            found = measure(asked.steps, asked.batch, asked.context, asked.repeats)
    except UserError as error:
        print(f"vectors: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    if asked.json:
        print(json.dumps(found, indent=1, sort_keys=True))
    else:
        show(found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
