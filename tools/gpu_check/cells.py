"""Cells of the preset ``paper`` on made-up data: training, memory, decisions, and the simulator's steps."""

from __future__ import annotations

import gc
import itertools
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backbench.agents.tokenizer import TOKENS_PER_STEP
from backbench.benchmarks.data.trajectories import Episode, Trajectories
from backbench.benchmarks.data.windows import WindowSampler
from backbench.benchmarks.plan.assemble import make_agent
from backbench.benchmarks.plan.compose import plan
from backbench.benchmarks.plan.request import Request
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run.checkpoint import save
from backbench.benchmarks.run.train import learning_rate, make_optimizer, set_learning_rate, updater
from backbench.benchmarks.speed.config import ACTION, EPISODE, OBSERVATION
from backbench.benchmarks.speed.parts.acting import decide, warm_actor
from backbench.benchmarks.speed.parts.training import resident
from backbench.errors import one_line
from gpu_check.busy import busy_seconds
from gpu_check.settings import PRESET, SUITE, Say, Settings

TASKS = ("halfcheetah-medium", "hopper-medium", "walker2d-medium")  # one of each environment
EPISODES = 50  # made up, of 1,000 steps each
WARM_UP = 5  # updates before the clock
DECISIONS = 1.0  # seconds of them, at most, for each size of batch
PROFILED = 20  # updates
STEPS, ENVIRONMENTS = 50, 20  # of the simulator


def paper_cell(backbone: str, settings: Settings, graphs: bool = False, task: str = TASKS[0]) -> Cell:
    """The cell that ``bench run --preset paper`` would run."""
    given = (*settings.overrides, *(["train.cuda_graphs=true"] if graphs else []))
    return plan(Request((backbone,), suite=SUITE, preset=PRESET, tasks=(task,), overrides=given))[0]


def made_up() -> Trajectories:
    """Random numbers in the shape of HalfCheetah's data."""
    rng = np.random.default_rng(0)
    return Trajectories.from_episodes(
        Episode(rng.standard_normal((EPISODE + 1, OBSERVATION)), rng.uniform(-1, 1, (EPISODE, ACTION)),
                rng.standard_normal(EPISODE), terminated=False)
        for _ in range(EPISODES)
    )  # fmt: skip


class Trainer:
    """A cell's training as in ``bench run``, without its files: the same batches, updates and reports of the loss."""

    def __init__(self, cell: Cell, device: str) -> None:
        self.cell, self.device, self.step = cell, torch.device(device), 0
        data = made_up()
        self.agent = make_agent(cell, data).to(self.device).train()
        self.optimizer = make_optimizer(self.agent, cell.train, self.device)
        self.sampler = WindowSampler(data, cell.model.context, cell.train.batch_size, cell.seed, self.device)
        self.update = updater(self.agent, self.optimizer, cell.train)

    def one(self) -> Tensor:
        """One update; its loss, on the device."""
        set_learning_rate(self.optimizer, learning_rate(self.step, self.cell.train))
        loss = self.update(self.sampler.batch(self.step))
        self.step += 1
        return loss

    def losses(self, updates: int) -> list[float]:
        """The losses of so many updates."""
        return [float(loss) for loss in torch.stack([self.one() for _ in range(updates)]).cpu()]

    def run(self, seconds: float) -> tuple[int, float]:
        """Train for about so long: updates, and seconds until the device has finished them.

        Losses come to the CPU every ``log_every`` updates, as in training.
        """
        self.losses(1)
        began, done, pending = time.perf_counter(), 0, []
        while True:
            pending.append(self.one())
            done += 1
            over = time.perf_counter() - began >= seconds
            if over or done % self.cell.train.log_every == 0:
                torch.stack(pending).cpu()
                pending = []
            if over:
                return done, time.perf_counter() - began


def measure_cells(settings: Settings, say: Say, seconds: float) -> None:
    """Each backbone in turn. An error of one stops no other."""
    for backbone in settings.backbones:
        try:
            for finding in _cell(backbone, settings):
                say({"backbone": backbone, **finding})
        except Exception as error:  # whatever it raises is what is reported of this backbone
            say({"kind": "error", "backbone": backbone, "error": f"{backbone}: {one_line(error)}"})


def _cell(backbone: str, settings: Settings) -> Iterator[dict[str, Any]]:
    cell = paper_cell(backbone, settings)
    before = _memory(settings, "start")
    trainer = Trainer(cell, settings.device)
    trainer.losses(WARM_UP)
    done, taken = trainer.run(settings.cell_seconds)
    rate = done / taken
    yield {
        "kind": "cell", "updates": done, "seconds": taken, "updates_per_s": rate,
        "tokens_per_s": rate * cell.train.batch_size * cell.model.context * TOKENS_PER_STEP,
        "peak_mb": _memory(settings, "peak") - before,
        "checkpoint_seconds": _checkpoint_seconds(trainer),
        "planned_updates": cell.train.steps, "planned_evaluations": cell.train.evaluations,
        "episodes": cell.eval.episodes, "targets": len(cell.targets), "max_steps": cell.max_steps,
    }  # fmt: skip
    for batch in (cell.eval.episodes, cell.eval.episodes * len(cell.targets)):
        states = torch.randn(batch, OBSERVATION).to(settings.device)
        actor = warm_actor(trainer.agent.eval(), cell.eval.acting, states, cell.model.context)
        actor.act(states)
        yield {"kind": "decision", "batch": batch, "seconds": median(decide(actor, states, DECISIONS))}
    trainer.agent.train()
    if settings.cuda:
        busy, kernels = busy_seconds(lambda: trainer.losses(PROFILED), PROFILED)
        waits = max(0.0, 1 - busy * rate)
        yield {"kind": "busy", "busy_seconds": busy, "kernels": kernels, "updates_per_s": rate, "waits": waits}


def _memory(settings: Settings, what: str) -> float:
    """Memory in 10^6 bytes: at the start, from where the peak is counted anew, or that peak."""
    gc.collect()
    if settings.cuda:
        if what == "peak":
            return torch.cuda.max_memory_allocated() / 1e6
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 1e6
    if what == "peak":
        return resident("VmHWM")
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return resident("VmRSS")


def _checkpoint_seconds(trainer: Trainer) -> float:
    """Writing a checkpoint of the training's size, with its digest."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        save(
            Path(folder) / "state.pt",
            {"agent": trainer.agent.state_dict(), "optimizer": trainer.optimizer.state_dict()["state"]},
        )
        return time.perf_counter() - began


def measure_simulator(settings: Settings, say: Say, seconds: float) -> None:
    """A step of one environment, for each kind of robot. Where Gymnasium is not installed, a finding says so."""
    for task in TASKS:
        cell = paper_cell(settings.backbones[0], settings, task=task)
        try:
            import gymnasium  # noqa: F401
            import mujoco  # noqa: F401
        except ImportError as error:
            say({"kind": "no simulator", "reason": one_line(error)})
            return
        envs, rng = cell.kind.make(cell.environment, ENVIRONMENTS), np.random.default_rng(0)
        envs.reset(list(range(ENVIRONMENTS)))
        taken = []
        for _ in itertools.repeat(None, STEPS):
            actions = rng.uniform(-1, 1, (ENVIRONMENTS, envs.sizes.action_dim))  # type: ignore[attr-defined]
            began = time.perf_counter()
            envs.step(list(range(ENVIRONMENTS)), actions)
            taken.append(time.perf_counter() - began)
        envs.close()
        say({"kind": "step", "environment": cell.task.env_id, "seconds": median(taken) / ENVIRONMENTS})
