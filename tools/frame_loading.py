"""Measure the loader of pixels: disk, memory, and speed against Decision Transformer's loader.

Run ``python tools/frame_loading.py``. The data are synthetic, of any size, in a store of their own.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loading import CPU, Goal, add_options, fresh_process, limits, machine, memory_mb, require_sizes, run, show
from torch import Tensor
from torch.utils.data import default_collate

from backbench.agents.agent import Windows
from backbench.agents.build import assemble
from backbench.agents.encoders import PixelEncoder
from backbench.agents.heads import ActionSpace
from backbench.agents.tokenizer import TOKENS_PER_STEP, TokenConfig
from backbench.backbones.build import build
from backbench.backbones.contract import Spec
from backbench.benchmarks.data import store
from backbench.benchmarks.data.store import framestore
from backbench.benchmarks.data.trajectories import Episode, Trajectories
from backbench.benchmarks.data.windows import WindowSampler
from backbench.benchmarks.environments.atari.protocol import STACK
from backbench.benchmarks.plan.settings import TrainConfig
from backbench.benchmarks.run.train import make_optimizer, update
from backbench.benchmarks.speed.timing import interleave, once
from backbench.errors import require
from backbench.files import write_whole

SIDE, ACTIONS, SEED = 84, 6, 0
SHORTEST, LONGEST = 200, 3000  # steps of an episode
SPRITES = 8
SLICE = 20_000  # steps that the original loader holds: stacks of all steps would not fit into memory
BATCHES, UPDATES = 10, 3  # of the memory measurement
GOALS = {"disk": Goal(1.1, "at most"), "speed": Goal(4.0, "at least"), "memory_mb": Goal(2000.0, "at most")}


def synthetic(steps: int, seed: int = SEED) -> Iterator[Episode]:
    """Episodes with ``steps`` in total, one at a time. Each has at least ``SHORTEST``, if ``steps`` allows."""
    rng = np.random.default_rng(seed)
    while steps:
        length = int(rng.integers(SHORTEST, LONGEST + 1))
        length = steps if steps - length < SHORTEST else length
        steps -= length
        yield _episode(rng, length)


def _episode(rng: np.random.Generator, length: int) -> Episode:
    background = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for _ in range(12):  # walls, platforms, a line of score
        y, x, high, wide = rng.integers(0, (SIDE, SIDE, 12, 60))
        background[y : y + high, x : x + wide] = rng.integers(40, 255)
    frames = np.repeat(background[None], length + 1, axis=0)
    time = np.arange(length + 1)
    for _ in range(SPRITES):
        size = rng.integers(2, 9, size=2)
        sprite = rng.integers(60, 256, size=size, dtype=np.uint8)
        positions = []
        for extent in size:  # back and forth between the walls
            room, speed = SIDE - int(extent), rng.uniform(-2, 2)
            positions.append(np.abs((rng.uniform(0, 2 * room) + speed * time) % (2 * room) - room).astype(int))
        rows, columns = (start[:, None] + np.arange(extent) for start, extent in zip(positions, size, strict=True))
        frames[time[:, None, None], rows[:, :, None], columns[:, None, :]] = sprite
    rewards = np.where(rng.random(length) < 0.02, rng.integers(-1, 8, size=length), 0).astype(np.float64)
    return Episode(frames, rng.integers(0, ACTIONS, size=length), rewards, bool(rng.random() < 0.9))


def prepared(steps: int) -> Trajectories:
    """The synthetic set with ``steps`` steps, generated if needed. DataError: it cannot be written, or is broken."""
    name = f"loading/synthetic-{steps}-v0"
    if not store.exists(name):
        framestore.write(name, synthetic(steps), ACTIONS, {"description": "Synthetic pixels to time loading on."})
    return store.read(name)


class OriginalLoader:
    """The loader of Decision Transformer's public code for Atari (arXiv:2106.01345), restated: a list of stacks.

    Args:
        data: actions, returns-to-go and timesteps.
        episodes: the same episodes with their frames. About ``SLICE`` steps are held.
        context: K. No episode may be shorter.
    """

    def __init__(self, data: Trajectories, episodes: Iterator[Episode], context: int) -> None:
        self.context = context
        self.stacks: list[np.ndarray] = []
        self.ends: list[int] = []
        for episode in episodes:
            padded = np.concatenate([episode.observations[:1].repeat(STACK - 1, 0), episode.observations[:-1]])
            self.stacks += [padded[step : step + STACK].copy() for step in range(len(episode.rewards))]
            self.ends.append(len(self.stacks))
            if len(self.stacks) >= SLICE:
                break
        self.actions = data.actions.tolist()
        self.timesteps = (np.arange(len(data.rewards)) - np.repeat(data.offsets[:-1], data.lengths)).tolist()
        self.returns_to_go = data.clipped_returns_to_go.tolist()

    def __len__(self) -> int:
        return len(self.stacks) - self.context

    def start(self, index: int) -> int:
        """Start of the window at ``index``, moved back so that the window ends with its episode."""
        end = index + self.context
        for one in self.ends:
            if one > index:
                end = min(one, end)
                break
        return end - self.context

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """States (K, stack * height * width) in [0, 1], actions (K, 1), returns-to-go (K, 1), first timestep (1, 1)."""
        first = self.start(index)
        rows = slice(first, first + self.context)
        states = torch.tensor(np.array(self.stacks[rows]), dtype=torch.float32).reshape(self.context, -1)
        return (
            states / 255.0,
            torch.tensor(self.actions[rows], dtype=torch.long).unsqueeze(1),
            torch.tensor(self.returns_to_go[rows], dtype=torch.float32).unsqueeze(1),
            torch.tensor(self.timesteps[first : first + 1], dtype=torch.int64).unsqueeze(1),
        )

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, ...]:
        """The items, each with a leading axis for the batch."""
        return tuple(default_collate([self[index] for index in indices]))


def as_floats(windows: Windows) -> Tensor:
    """States for the encoder: (batch * K, stack, height, width) in [0, 1]."""
    states = windows.states
    return states.reshape(-1, *states.shape[-3:]).to(torch.float32).div_(255)  # in place: half the memory and time


def assert_equal(sampler: WindowSampler, original: OriginalLoader, indices: Sequence[int]) -> None:
    """Both loaders make the same windows. AssertionError names what differs."""
    ours = sampler.windows(torch.tensor([original.start(index) for index in indices]))
    assert ours.mask.all(), "a window is not full"
    states, actions, returns_to_go, timesteps = original.batch(indices)
    pairs = {
        "states": (as_floats(ours).flatten(1), states.flatten(0, 1)),
        "actions": (ours.actions, actions.squeeze(-1)),
        "returns-to-go": (ours.returns_to_go, returns_to_go.squeeze(-1)),
        "timesteps": (ours.timesteps[:, :1], timesteps.squeeze(-1)),
    }
    for name, (one, other) in pairs.items():
        assert torch.equal(one, other), f"{name} of the two loaders differ"


def time_loaders(sampler: WindowSampler, original: OriginalLoader, repeats: int) -> dict[str, tuple[float, ...]]:
    """Seconds of single batches of each loader, in turns."""
    number, rng = count(), np.random.default_rng(SEED)
    calls = {
        "original": lambda: original.batch(rng.integers(len(original), size=sampler.batch_size).tolist()),
        "ours, bytes": lambda: sampler.batch(next(number)),
        "ours, floats": lambda: as_floats(sampler.batch(next(number))),
    }
    return interleave({name: once(call, CPU) for name, call in calls.items()}, repeats, float("inf"))


def disk(data: Trajectories) -> dict[str, float]:
    """Bytes of the set's folder with unpacked frames, and their ratio to one frame of 84 x 84 bytes a step."""
    folder = store.path_of(data.name)
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"bytes": total, "ratio": total / (len(data.rewards) * SIDE * SIDE)}


def memory(name: str, batch: int, context: int) -> dict[str, dict[str, float]]:
    """The fresh process: load, sample batches, train a small agent. Resident memory after each."""
    found = {"imports": memory_mb()}
    data = store.read(name)
    sampler = WindowSampler(data, context, batch, SEED, CPU, clipped=True)
    found["loaded"] = memory_mb()
    for number in range(BATCHES):
        sampler.batch(number)
    found["sampling"] = memory_mb()
    width, config = 64, TrainConfig()
    spec = Spec(width, n_layers=1, dropout=0.1, max_length=TOKENS_PER_STEP * context)
    encoder = PixelEncoder("light", data.state_shape, width)
    tokens = TokenConfig(int(data.lengths.max()), 1.0, context=context)
    agent = assemble(build("transformer", None, spec), encoder, ActionSpace(ACTIONS, discrete=True), tokens)
    optimizer = make_optimizer(agent, config, CPU)
    for number in range(UPDATES):
        update(agent, agent.loss, sampler.batch(number), optimizer, config)
    return found | {"training": memory_mb()}


def measure(transitions: int, batch: int, context: int, repeats: int) -> dict[str, Any]:
    """All figures, as JSON holds them. UserError: a setting is out of range."""
    require_sizes({"transitions": transitions, "batch": batch, "context": context, "repeats": repeats})
    require(context < min(transitions, SHORTEST), f"--context {context}: give less than the shortest episode has steps")
    data = prepared(transitions)
    sampler = WindowSampler(data, context, batch, SEED, CPU, clipped=True)
    memories = fresh_process(__file__, "memory", {"name": data.name, "batch": batch, "context": context})
    original = OriginalLoader(data, synthetic(transitions), context)
    indices = np.random.default_rng(SEED + 1).integers(len(original), size=batch).tolist()
    # The first window, and windows that are moved back from an episode's end.
    assert_equal(sampler, original, [*indices, 0, *(end - 1 for end in original.ends if end <= len(original))])
    seconds = time_loaders(sampler, original, repeats)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    return {
        **{"transitions": transitions, "batch": batch, "context": context},
        **{"episodes": len(data.lengths), "slice": len(original.stacks)},
        "disk": disk(data),
        "seconds": seconds,
        "ratios": {name: medians["original"] / medians[name] for name in medians if name != "original"},
        "memory": memories,
        "goals": limits(GOALS),
        **machine(),
    }


def show_figures(found: dict[str, Any]) -> None:
    """Print the figures as a table, with the goals."""
    rows: list[tuple[str, float, str, Goal | None]] = [
        ("disk, of a frame a step", found["disk"]["ratio"], "times", GOALS["disk"])
    ]
    rows += [(f"a batch, {name}", 1000 * float(np.median(v)), "ms", None) for name, v in found["seconds"].items()]
    rows += [(f"original to {name}", value, "times", GOALS["speed"]) for name, value in found["ratios"].items()]
    for name, value in found["memory"].items():
        goal = GOALS["memory_mb"] if name == "training" else None
        rows.append((f"peak memory, {name}", value["peak"], "MB", goal))
    heading = (
        f"{found['transitions']:,} steps in {found['episodes']} episodes, batches of {found['batch']} windows of "
        f"{found['context']} steps, {found['threads']} threads. The original loader holds {found['slice']:,}."
    )
    show(heading, rows)


def main(words: Sequence[str] | None = None) -> int:
    """The command; its exit status: 2 for a mistake of the user."""
    parser = argparse.ArgumentParser(prog="python tools/frame_loading.py", description=__doc__)
    parser.add_argument("--transitions", type=int, default=100_000, help="steps of the synthetic set")
    parser.add_argument("--out", type=Path, default=Path("speed/loading.json"), help="file of the figures")
    add_options(parser, batch=128, context=30)
    asked = parser.parse_args(words)
    if asked.measured:  # the fresh process
        print(json.dumps(memory(asked.name, asked.batch, asked.context)))
        return 0

    def measure_and_write() -> dict[str, Any]:
        found = measure(asked.transitions, asked.batch, asked.context, asked.repeats)
        write_whole(asked.out, json.dumps(found, indent=1, sort_keys=True) + "\n")
        return found

    found = run("loading", asked.store, measure_and_write)
    if found is None:
        return 2
    show_figures(found)
    print(f"written: {asked.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
