"""From a cell, its results and its costs to the record that is published."""

import os
import resource
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from backbench.agents.acting import make_actor
from backbench.agents.agent import Agent
from backbench.agents.build import count_parameters
from backbench.agents.heads import head_for
from backbench.backbones.contract import estimated_flops
from backbench.backbones.fast import state_bytes
from backbench.backbones.kernels import ran
from backbench.benchmarks.data.trajectories import Trajectories
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run import provenance
from backbench.benchmarks.run.checkpoint import weights_digest
from backbench.benchmarks.run.evaluate import Longer, TargetResult
from backbench.benchmarks.run.held_out import HeldOut
from backbench.benchmarks.run.train import Diverged, Progress
from backbench.errors import UserError
from backbench.leaderboard.record import schema
from backbench.leaderboard.record.identity import newer
from backbench.leaderboard.scores.normalise import normalise

MOST_LOSSES = 200  # of a curve: evenly spaced, with the last one
DECISIONS = 100  # timed ones


class Stopwatch:
    """Times a cell from its start."""

    def __init__(self) -> None:
        self.started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._wall, self._cpu = time.perf_counter(), _cpu_seconds()

    def seconds(self) -> dict[str, float]:
        """``cpu_seconds`` and ``wall_seconds`` since the start."""
        return {"cpu_seconds": _cpu_seconds() - self._cpu, "wall_seconds": time.perf_counter() - self._wall}


def _cpu_seconds() -> float:
    """Of this process, and of those that trained with it and have ended."""
    others = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + others.ru_utime + others.ru_stime


class Draft:
    """A record as far as it is known before training; ``done`` or ``failed`` completes it."""

    def __init__(
        self,
        cell: Cell,
        data: Trajectories,
        targets: tuple[float, ...],
        device: torch.device,
        command: Sequence[str],
        watch: Stopwatch,
    ) -> None:
        """Raises ``UserError`` for data that no record can contain."""
        self.cell, self.device, self.watch = cell, device, watch
        self.state = torch.from_numpy(cell.kind.blank_state(data.state_shape))
        self.provenance = _provenance(cell, device, command, watch.started)
        try:
            self.parts: dict[str, Any] = {
                "key": cell.key, "identity": _identity(cell, data), "protocol": _protocol(cell, data, targets)
            }  # fmt: skip
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field, reason = ".".join(map(str, first["loc"])), first["msg"].lower()
            raise UserError(
                f"task {cell.task.name}, data {cell.task.data_id}: no record can contain its {field} {first['input']}: "
                f"{reason}; fix the data or the suite"
            ) from error

    def done(
        self,
        agent: Agent,
        progress: Progress,
        final: Sequence[TargetResult],
        longer: Sequence[tuple[Longer, TargetResult]] = (),
        held_out: HeldOut | None = None,
    ) -> schema.Record:
        """The record of a trained agent, the ``final`` scores, those on ``longer`` episodes, and the held-out loss.

        ``ValidationError`` if no record can contain them.
        """
        cell, losses = self.cell, progress.losses
        flops = agent.backbone.flops(agent.backbone.spec.max_length)
        measured = schema.Cost(
            parameters_total=count_parameters(agent),
            parameters_backbone=count_parameters(agent.backbone),
            flops_per_token=flops,
            flops_estimated=flops is not None and bool(estimated_flops(agent.backbone)),
            state_bytes=state_bytes(agent.backbone),
            train_tokens_per_s=progress.tokens_per_second(cell),
            train_seconds=progress.seconds,
            eval_seconds=progress.eval_seconds,
            decision=decision_latency(agent, cell.eval.acting, cell.model.context, self.state.to(self.device)),
            peak_memory_mb=peak_memory_mb(self.device),
            **self.watch.seconds(),
        )
        stride = max(1, -(-len(losses) // MOST_LOSSES))
        evaluations = [
            schema.Evaluation(step=step, raw=raw, normalised=_normalised(cell, raw))
            for step, raw in progress.evaluations
        ]
        return schema.Record(
            status="done",
            scores=_scores(cell, progress, final, longer).model_copy(update={"held_out": _held_out(held_out)}),
            cost=measured,
            curve=schema.Curve(loss=tuple(losses[::-1][::stride][::-1]), evaluations=tuple(evaluations)),
            provenance=self._after(weights_sha256=weights_digest(agent.state_dict())),
            **self.parts,
        )

    def failed(self, error: Exception) -> schema.Record:
        """The record of a cell that ``error`` ended."""
        step, lr = (error.step, error.lr) if isinstance(error, Diverged) else (None, None)
        message = " ".join(str(error).split())[:300] or type(error).__name__
        failure = schema.Failure(type=type(error).__name__, message=message, step=step, lr=lr)
        return schema.Record(status="failed", failure=failure, provenance=self._after(), **self.parts)

    def _after(self, **known: str) -> schema.Provenance:
        return self.provenance.model_copy(update={"kernels": ran(), **known})


def _normalised(cell: Cell, raw: float) -> float:
    return normalise(cell.task.normaliser, cell.task.name, raw, cell.task.reference)


def _identity(cell: Cell, data: Trajectories) -> schema.Identity:
    summary: dict[str, Any] = dict(data.summary())
    return schema.Identity(
        backbone=cell.backbone, options=dict(cell.options),
        model=schema.ModelShape(
            tokens_per_step=len(cell.model.tokens),
            extra={name: getattr(cell.model, name) for name in cell.kind.model_settings}
            | newer("model", vars(cell.model)),
            **{name: getattr(cell.model, name) for name in ("d_model", "n_layers", "dropout", "context")},
        ),
        suite=cell.task.suite, task=cell.task.name, source=cell.data.source, environment=cell.task.env_id,
        suite_tasks=cell.task.suite_tasks,
        data=schema.DataSummary(
            id=cell.task.data_id,
            sha256=data.digest,
            normalised_mean=_normalised(cell, summary["return_mean"]),
            rewards="clipped" if data.rewards_clipped else "raw",
            **summary,
        ),
        preset=cell.preset, seed=cell.seed, variant=cell.variant,
    )  # fmt: skip


def _protocol(cell: Cell, data: Trajectories, targets: tuple[float, ...]) -> schema.Protocol:
    head = head_for(data.n_actions is not None)
    return schema.Protocol(
        context=cell.model.context,
        targets=targets,
        episodes=cell.eval.episodes,
        acting=cell.eval.acting,  # type: ignore[arg-type]  # EvalConfig has checked it
        head=head.name,
        sampling=head.sampling_at(cell.eval.temperature),
        return_scale=cell.task.return_scale,
        returns_to_go=cell.task.rewards,  # type: ignore[arg-type]  # DataConfig has checked it
        environment=cell.kind.conventions(cell.environment),
        max_steps=cell.max_steps,
        timestep=cell.eval.timestep,  # type: ignore[arg-type]  # EvalConfig has checked it
        eval_seed=cell.eval.seed,
        normaliser=cell.task.normaliser,
        reference=cell.task.reference or None,  # type: ignore[arg-type]  # two numbers or none
    )


def _provenance(cell: Cell, device: torch.device, command: Sequence[str], started: str) -> schema.Provenance:
    """As known at the start: the code may change until the end."""
    commit, dirty = provenance.git_state()
    return schema.Provenance(
        device=device.type, dtype="bfloat16" if cell.train.bf16 else "float32", threads=torch.get_num_threads(),
        git_commit=commit, git_dirty=dirty, packages=provenance.packages(),
        hardware=provenance.hardware(torch.cuda.get_device_name(device) if device.type == "cuda" else None),
        python=sys.version.split()[0], platform=f"{os.uname().sysname} {os.uname().machine}",
        config=cell.resolved(), command=shlex.join(command), started=started, kernels={}, weights_sha256=None,
    )  # fmt: skip


def _scores(
    cell: Cell, progress: Progress, final: Sequence[TargetResult], longer: Sequence[tuple[Longer, TargetResult]]
) -> schema.Scores:
    """The last checkpoint is the score. The best evaluation of the headline is recorded too."""
    last, beyond = _scored(cell, progress.step, final), tuple(_longer(cell, *one) for one in longer)
    if progress.best is None:
        return schema.Scores(last=last, longer=beyond)
    fields = dict(progress.best)
    step, best = fields.pop("step"), TargetResult(**fields)
    if best.mean <= final[0].mean:
        step, best = progress.step, final[0]
    return schema.Scores(last=last, best=_scored(cell, step, [best]), longer=beyond)


def _scored(cell: Cell, step: int, results: Sequence[TargetResult]) -> schema.CheckpointScores:
    return schema.CheckpointScores(step=step, targets=tuple(_target(cell, one) for one in results))


def _target(cell: Cell, one: TargetResult) -> schema.TargetScore:
    return schema.TargetScore(**vars(one), raw_mean=one.mean, normalised_mean=_normalised(cell, one.mean))


def _longer(cell: Cell, at: Longer, result: TargetResult) -> schema.LongerScore:
    return schema.LongerScore(
        times=at.times, acting=at.play.acting, context=at.play.context,  # type: ignore[arg-type]  # one of the two
        max_steps=at.play.max_steps, lag=at.lag, score=_target(cell, result),
    )  # fmt: skip


def _held_out(found: HeldOut | None) -> schema.HeldOut | None:
    return None if found is None else schema.HeldOut(**vars(found))


def decision_latency(agent: Agent, acting: str, context: int, states: torch.Tensor) -> schema.Latency:
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
    return schema.Latency(p50_ms=p50, p95_ms=p95, batch=len(states))


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory of the device on CUDA, else resident memory of this process, in 10^6 bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6  # Linux counts KiB
