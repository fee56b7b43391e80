"""What a cell costs: time, parameters, time of a decision, memory."""

from __future__ import annotations

import resource
import time
from datetime import UTC, datetime

import numpy as np
import torch

from backbench.agents.acting import make_actor
from backbench.agents.agent import Agent
from backbench.leaderboard.record.schema import Latency


class Stopwatch:
    """Times a cell from its start."""

    def __init__(self) -> None:
        self.started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def seconds(self) -> dict[str, float]:
        """``cpu_seconds`` and ``wall_seconds`` since the start."""
        return {"cpu_seconds": time.process_time() - self._cpu, "wall_seconds": time.perf_counter() - self._wall}


def decision_latency(agent: Agent, acting: str, context: int, states: torch.Tensor, decisions: int = 100) -> Latency:
    """Wall time of a decision for a batch of environments, with a full window.

    Args:
        agent: on the device of ``states``.
        acting: protocol, ``window`` or ``recurrent``.
        context: K, steps of a window.
        states: (batch, *observation); their values are irrelevant.
        decisions: number of timed decisions, after ``context`` untimed ones.
    """
    was_training = agent.training
    agent.eval()
    actor = make_actor(agent, acting, torch.zeros(len(states), device=states.device), context)
    rewards = torch.zeros(len(states), device=states.device)
    uniforms = torch.full((len(states),), 0.5) if agent.head.draws else None
    times = []
    for i in range(context + decisions):
        begun = time.perf_counter()
        actor.act(states, uniforms)
        if states.is_cuda:
            torch.cuda.synchronize(states.device)
        if i >= context:
            times.append(1000 * (time.perf_counter() - begun))
        actor.update(rewards)
    agent.train(was_training)
    p50, p95 = (float(np.percentile(times, q)) for q in (50, 95))
    return Latency(p50_ms=p50, p95_ms=p95, batch=len(states))


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory of the device on CUDA, else resident memory of this process, in 10^6 bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6  # Linux counts KiB
