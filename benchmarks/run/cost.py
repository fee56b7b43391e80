"""What a cell costs: time, time of a decision, memory."""

from __future__ import annotations

import resource
import time
from datetime import UTC, datetime

import numpy as np
import torch

from backbench.agents.acting import make_actor
from backbench.agents.agent import Agent
from backbench.leaderboard.record.schema import Latency

DECISIONS = 100  # timed ones


class Stopwatch:
    """Times a cell from its start."""

    def __init__(self) -> None:
        self.started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def seconds(self) -> dict[str, float]:
        """``cpu_seconds`` and ``wall_seconds`` since the start."""
        return {"cpu_seconds": time.process_time() - self._cpu, "wall_seconds": time.perf_counter() - self._wall}


def decision_latency(agent: Agent, acting: str, context: int, states: torch.Tensor) -> Latency:
    """Wall time of a decision by ``agent``, on the device of ``states`` (batch, *observation), with a full window.

    ``acting`` is the protocol, ``context`` K. The first K decisions are untimed. The values of states are irrelevant.
    """
    was_training = agent.training
    agent.eval()
    actor = make_actor(agent, acting, torch.zeros(len(states), device=states.device), context)
    rewards = torch.zeros(len(states), device=states.device)
    uniforms = torch.full((len(states),), 0.5) if agent.head.draws else None
    times = []
    for _ in range(context + DECISIONS):
        begun = time.perf_counter()
        actor.act(states, uniforms)
        if states.is_cuda:
            torch.cuda.synchronize(states.device)
        times.append(1000 * (time.perf_counter() - begun))
        actor.update(rewards)
    agent.train(was_training)
    p50, p95 = (float(np.percentile(times[context:], q)) for q in (50, 95))
    return Latency(p50_ms=p50, p95_ms=p95, batch=len(states))


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory of the device on CUDA, else resident memory of this process, in 10^6 bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6  # Linux counts KiB
