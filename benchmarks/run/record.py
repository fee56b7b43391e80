"""From a cell and its results to the record that is published."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import ValidationError

from backbench.agents.agent import Agent
from backbench.agents.build import count_parameters
from backbench.agents.heads import head_for
from backbench.agents.tokenizer import TOKENS_PER_STEP
from backbench.backbones.kernels import ran
from backbench.benchmarks.data.trajectories import Trajectories
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run import cost, provenance
from backbench.benchmarks.run.checkpoint import weights_digest
from backbench.benchmarks.run.evaluate import TargetResult
from backbench.benchmarks.run.train import Diverged, Progress
from backbench.errors import UserError
from backbench.leaderboard.record import schema
from backbench.leaderboard.scores.normalise import normalise

MOST_LOSSES = 200  # of a curve


class Draft:
    """A record as far as it is known before training; ``done`` or ``failed`` completes it."""

    def __init__(
        self,
        cell: Cell,
        data: Trajectories,
        targets: tuple[float, ...],
        device: torch.device,
        command: Sequence[str],
        watch: cost.Stopwatch,
    ) -> None:
        """Raises ``UserError`` for data that no record can contain."""
        self.cell, self.device, self.watch = cell, device, watch
        self.state = torch.from_numpy(cell.kind.blank_state(data.state_shape))
        self.provenance = _provenance(cell, device, command)
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

    def done(self, agent: Agent, progress: Progress, final: Sequence[TargetResult]) -> schema.Record:
        """The record of a trained agent and the ``final`` scores; ``ValidationError`` if no record can contain them."""
        cell = self.cell
        measured = _cost(cell, agent, progress, self.state.to(self.device)) | self.watch.seconds()
        evaluations = [
            schema.Evaluation(step=step, raw=raw, normalised=_normalised(cell, raw))
            for step, raw in progress.evaluations
        ]
        return schema.Record(
            status="done",
            scores=_scores(cell, progress, final),
            cost=schema.Cost(**measured),
            curve=schema.Curve(loss=tuple(_thinned(progress.losses)), evaluations=tuple(evaluations)),
            provenance=self._provenance(weights_digest(agent.state_dict())),
            **self.parts,
        )

    def failed(self, error: Exception) -> schema.Record:
        """The record of a cell that ``error`` ended."""
        step, lr = (error.step, error.lr) if isinstance(error, Diverged) else (None, None)
        message = " ".join(str(error).split())[:300] or type(error).__name__
        failure = schema.Failure(type=type(error).__name__, message=message, step=step, lr=lr)
        return schema.Record(status="failed", failure=failure, provenance=self._provenance(None), **self.parts)

    def _provenance(self, weights: str | None) -> schema.Provenance:
        return schema.Provenance(**self.provenance, started=self.watch.started, kernels=ran(), weights_sha256=weights)


def _cost(cell: Cell, agent: Agent, progress: Progress, state: torch.Tensor) -> dict[str, Any]:
    """Fields of the record's cost, except for the times of the complete cell. ``state``: (1, *observation)."""
    return {
        "parameters_total": count_parameters(agent),
        "parameters_backbone": count_parameters(agent.backbone),
        "flops_per_token": agent.backbone.flops(cell.model.context * TOKENS_PER_STEP),
        "train_tokens_per_s": progress.tokens_per_second(cell),
        "train_seconds": progress.seconds,
        "eval_seconds": progress.eval_seconds,
        "decision": cost.decision_latency(agent, cell.eval.acting, cell.model.context, state),
        "peak_memory_mb": cost.peak_memory_mb(state.device),
    }


def _normalised(cell: Cell, raw: float) -> float:
    return normalise(cell.task.normaliser, cell.task.name, raw, cell.task.reference)


def _thinned(rows: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most ``MOST_LOSSES`` rows, evenly spaced, including the last one."""
    stride = max(1, -(-len(rows) // MOST_LOSSES))
    return [(int(step), float(value)) for step, value in list(rows)[::-1][::stride][::-1]]


def _identity(cell: Cell, data: Trajectories) -> schema.Identity:
    summary, model = data.summary(), cell.model
    return schema.Identity(
        backbone=cell.backbone,
        options=dict(cell.options),
        model=schema.ModelShape(
            tokens_per_step=TOKENS_PER_STEP,
            extra={name: getattr(model, name) for name in cell.kind.model_settings},
            **{name: getattr(model, name) for name in ("d_model", "n_layers", "dropout", "context")},
        ),
        suite=cell.task.suite,
        task=cell.task.name,
        source=cell.data.source,
        environment=cell.task.env_id,
        suite_tasks=cell.task.suite_tasks,
        data=schema.DataSummary(
            id=cell.task.data_id,
            sha256=data.digest,
            episodes=int(summary["episodes"]),
            steps=int(summary["steps"]),
            normalised_mean=_normalised(cell, summary["return_mean"]),
            rewards="clipped" if data.rewards_clipped else "raw",
            **{name: summary[name] for name in ("return_mean", "return_std", "return_min", "return_max")},
        ),
        preset=cell.preset,
        seed=cell.seed,
        variant=cell.variant,
    )


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
        eval_seed=cell.eval.seed,
        normaliser=cell.task.normaliser,
        reference=cell.task.reference or None,  # type: ignore[arg-type]  # two numbers or none
    )


def _provenance(cell: Cell, device: torch.device, command: Sequence[str]) -> dict[str, Any]:
    commit, dirty = provenance.git_state()
    return {
        "device": device.type,
        "dtype": "bfloat16" if cell.train.bf16 else "float32",
        "threads": torch.get_num_threads(),
        "git_commit": commit,
        "git_dirty": dirty,
        "packages": provenance.packages(),
        "hardware": provenance.hardware(torch.cuda.get_device_name(device) if device.type == "cuda" else None),
        "python": sys.version.split()[0],
        "platform": f"{os.uname().sysname} {os.uname().machine}",
        "config": cell.resolved(),
        "command": shlex.join(command),
    }


def _scores(cell: Cell, progress: Progress, final: Sequence[TargetResult]) -> schema.Scores:
    """The last checkpoint is the score. The best evaluation of the headline is recorded too."""

    def scored(step: int, results: Sequence[TargetResult]) -> schema.CheckpointScores:
        targets = [
            schema.TargetScore(
                target=result.target,
                returns=result.returns,
                lengths=result.lengths,
                raw_mean=result.mean,
                normalised_mean=_normalised(cell, result.mean),
            )
            for result in results
        ]
        return schema.CheckpointScores(step=step, targets=tuple(targets))

    last = scored(progress.step, final)
    if progress.best is None:
        return schema.Scores(last=last)
    fields = dict(progress.best)
    step = fields.pop("step")
    best = TargetResult(fields["target"], tuple(fields["returns"]), tuple(fields["lengths"]))
    if best.mean <= final[0].mean:
        step, best = progress.step, final[0]
    return schema.Scores(last=last, best=scored(step, [best]))
