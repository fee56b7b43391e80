"""One cell, from its settings to its record: ``run(Cell(...)) -> Record``. Needs no Hydra and no MLflow."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from backbench.agents.agent import Agent
from backbench.agents.heads import CategoricalHead, TanhHead
from backbench.agents.tokenizer import TOKENS_PER_STEP
from backbench.backbones.kernels import forget_ran, ran
from backbench.benchmarks.data import sources, store
from backbench.benchmarks.data.frames import Frames
from backbench.benchmarks.data.targets import by_rule
from backbench.benchmarks.data.trajectories import Trajectories
from backbench.benchmarks.data.windows import WindowSampler
from backbench.benchmarks.environments import spaces
from backbench.benchmarks.environments.vector import GymBatch
from backbench.benchmarks.plan.assemble import make_agent
from backbench.benchmarks.plan.settings import Cell, EvalConfig
from backbench.benchmarks.run import checkpoint, cost, provenance
from backbench.benchmarks.run.evaluate import Interrupted, TargetResult, evaluate
from backbench.benchmarks.run.train import Diverged, Progress, train
from backbench.errors import UserError
from backbench.leaderboard.record import schema
from backbench.leaderboard.record.files import dump_record
from backbench.leaderboard.scores.normalise import normalise

Report = Callable[[dict[str, Any]], None]


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA when there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"unknown device '{name}'; give auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"unknown device '{name}'; give auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device '{name}' is not there: torch {torch.__version__} sees {torch.cuda.device_count()} GPUs"
        )
    return device


def run(
    cell: Cell,
    results: Path,
    device: str = "auto",
    report: Report = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
    command: Sequence[str] | None = None,
) -> schema.Record:
    """Train, evaluate and record one cell; a checkpoint of an earlier attempt is taken up.

    The record is written to ``results/records``, weights to ``results/checkpoints``. A cell whose training diverges, or
    whose code raises, gets a record of its failure.

    Raises:
        Interrupted: ``should_stop`` answered true; the same call goes on from there.
        UserError: something about the settings, the data or a checkpoint that the user has to mend; no record.
        OSError: the results cannot be written.
    """
    began, cpu_began = time.perf_counter(), time.process_time()
    started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    where = choose_device(device)
    if where.type == "cpu":
        torch.use_deterministic_algorithms(True)
    data = sources.load(cell.task)
    _check_actions(cell, data)
    targets = cell.targets or by_rule(data, clipped=cell.task.rewards != "raw")
    try:
        parts: dict[str, Any] = {
            "key": cell.key,
            "identity": _identity(cell, data),
            "protocol": _protocol(cell, data, targets),
        }
    except ValidationError as error:  # before anything is trained
        first = error.errors(include_url=False)[0]
        raise UserError(
            f"task {cell.task.name}, data {cell.task.data_id}: no record can hold its "
            f"{'.'.join(map(str, first['loc']))} {first['input']}: {first['msg'].lower()}; mend the data or the suite"
        ) from error
    provenance_ = _provenance(cell, where, started, command)
    folder = cell.checkpoint_folder(results)
    forget_ran()
    try:
        with checkpoint.claimed(folder):
            agent, progress, final = _play_out(cell, data, targets, where, folder, report, should_stop)
        cost = _cost(cell, agent, progress, _a_state(data).to(where))
        cost |= {"cpu_seconds": time.process_time() - cpu_began, "wall_seconds": time.perf_counter() - began}
        record = schema.Record(
            status="done",
            scores=_scores(cell, progress, final),
            cost=schema.Cost(**cost),
            curve=schema.Curve(
                loss=tuple(_thinned(progress.losses)),
                evaluations=tuple(
                    schema.Evaluation(step=step, raw=raw, normalised=_normalised(cell, raw))
                    for step, raw in progress.evaluations
                ),
            ),
            provenance=schema.Provenance(
                **provenance_, kernels=ran(), weights_sha256=checkpoint.weights_digest(agent.state_dict())
            ),
            **parts,
        )
    except (Interrupted, UserError, OSError):
        raise
    except Exception as error:
        # Whatever a backbone raises, or answers that no record can hold, is this cell's result; the others go on.
        step, lr = (error.step, error.lr) if isinstance(error, Diverged) else (None, None)
        message = " ".join(str(error).split())[:300] or type(error).__name__
        failure = schema.Failure(type=type(error).__name__, message=message, step=step, lr=lr)
        record = schema.Record(
            status="failed", failure=failure, provenance=schema.Provenance(**provenance_, kernels=ran()), **parts
        )
    dump_record(record, cell.record_path(results))
    if record.status == "done":
        (folder / "state.pt").unlink(missing_ok=True)  # the weights stay
    return record


def _play_out(
    cell: Cell,
    data: Trajectories,
    targets: Sequence[float],
    device: torch.device,
    folder: Path,
    report: Report,
    should_stop: Callable[[], bool],
) -> tuple[Agent, Progress, list[TargetResult]]:
    """The trained agent, how training went, and its scores."""
    agent = make_agent(cell, data).to(device)

    def score(towards: Sequence[float]) -> list[TargetResult]:
        return evaluate(
            agent, cell.task.env_id, towards, cell.eval.episodes, cell.eval.acting, cell.model.context,
            cell.max_steps, cell.eval.seed, device, should_stop,
            atari=cell.atari, clip_rewards=cell.task.rewards == "clipped", env_kwargs=cell.task.env_kwargs,
        )  # fmt: skip

    clipped = cell.task.rewards != "raw"
    sampler = WindowSampler(data, cell.model.context, cell.train.batch_size, cell.seed, device, clipped)
    progress = train(cell, agent, sampler, device, folder, lambda: score(targets[:1])[0], report, should_stop)
    report({"kind": "evaluating", "step": progress.step})
    began = time.perf_counter()
    final = score(targets)
    progress.eval_seconds += time.perf_counter() - began
    report({"kind": "eval", "step": progress.step, "return": final[0].mean})
    return agent, progress, final


def _cost(cell: Cell, agent: Agent, progress: Progress, state: torch.Tensor) -> dict[str, Any]:
    """Fields of the record's cost, but for the times of the whole cell; ``state`` (1, *observation) is decided on."""
    return {
        "parameters_total": cost.count_parameters(agent),
        "parameters_backbone": cost.count_parameters(agent.backbone),
        "flops_per_token": agent.backbone.flops_per_token(cell.model.context * TOKENS_PER_STEP),
        "train_tokens_per_s": progress.tokens_per_second(cell),
        "train_seconds": progress.seconds,
        "eval_seconds": progress.eval_seconds,
        "decision": cost.decision_latency(agent, cell.eval.acting, cell.model.context, state),
        "peak_memory_mb": cost.peak_memory_mb(state.device),
    }


def _check_actions(cell: Cell, data: Trajectories) -> None:
    """What the data hold must be what the environment shows and takes.

    Numbers of another set of actions would be played as other actions.
    """
    if cell.atari is None:
        _check_spaces(cell, data)
        return
    from backbench.benchmarks.environments.atari.emulator import action_names
    from backbench.benchmarks.environments.atari.protocol import game_of

    there = len(action_names(game_of(cell.task.env_id), cell.atari))
    if data.n_actions != there:
        raise UserError(
            f"data set {data.name!r} has {data.n_actions} actions and {cell.task.env_id} has {there} with "
            f"atari.full_actions={str(cell.atari.full_actions).lower()}; the sets must be the same"
        )


def _check_spaces(cell: Cell, data: Trajectories) -> None:
    task = cell.task
    envs = GymBatch(task.env_id, 1, task.env_kwargs)
    theirs, envs_space = envs.actions, envs.space
    envs.close()
    same = data.state_shape == (spaces.size(envs_space),) and data.n_actions == theirs.n
    ours = data.n_actions or data.actions.shape[1]
    if not same or ours != (theirs.n or len(theirs.low)):
        numbered = " numbered" if data.n_actions is not None else ""
        raise UserError(
            f"data set {data.name!r} has states {data.state_shape} and {ours}{numbered} actions, environment "
            f"{task.env_id} has states {spaces.describe(envs_space)} and {theirs.n or len(theirs.low)} actions; they "
            "must be the same"
        )
    if sources.SOURCES.get(cell.data.source).any_id:  # others were written with the environment's own spaces
        observations, actions = store.recorded_spaces(data.name)
        recorded = spaces.Actions.of(actions, data.name)
        if spaces.describe(observations) != spaces.describe(envs_space):
            raise UserError(
                f"data set {data.name!r} has observations {spaces.describe(observations)}, environment {task.env_id} "
                f"has {spaces.describe(envs_space)}; they must be the same"
            )
        if not (np.allclose(recorded.low, theirs.low) and np.allclose(recorded.high, theirs.high)):
            raise UserError(
                f"data set {data.name!r} was recorded with actions {actions}, environment {task.env_id} takes others; "
                "give the environment the data's bounds: gymnasium.wrappers.RescaleAction, in its registration"
            )
    if data.n_actions is None and cell.eval.temperature != EvalConfig().temperature:
        raise UserError("override eval.temperature: only numbered actions are drawn; leave it out")


def _shape(cell: Cell) -> dict[str, Any]:
    """What shapes the agent beside the backbone."""
    shape: dict[str, Any] = {"timestep": cell.model.timestep, "embedding": cell.model.embedding}
    return {**shape, "encoder": cell.model.encoder} if cell.task.pixels else shape


def _a_state(data: Trajectories) -> torch.Tensor:
    """(1, *observation): any plausible state to time a decision on."""
    if isinstance(data.states, Frames):
        return torch.from_numpy(data.states.windows([0], [0], [1], 1))
    return torch.from_numpy(data.states[:1])


def _normalised(cell: Cell, raw: float) -> float:
    return normalise(cell.task.normaliser, cell.task.name, raw, cell.task.reference)


def _thinned(rows: Sequence[tuple[int, float]], most: int = 200) -> list[tuple[int, float]]:
    """At most ``most`` rows, evenly spaced, the last one among them."""
    stride = -(-len(rows) // most)
    return [(int(step), float(value)) for step, value in list(rows)[::-1][:: max(1, stride)][::-1]]


def _identity(cell: Cell, data: Trajectories) -> schema.Identity:
    summary = data.summary()
    return schema.Identity(
        backbone=cell.backbone,
        options=dict(cell.options),
        model=schema.ModelShape(
            d_model=cell.model.d_model,
            n_layers=cell.model.n_layers,
            dropout=cell.model.dropout,
            context=cell.model.context,
            tokens_per_step=TOKENS_PER_STEP,
            extra=_shape(cell),
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
            return_mean=summary["return_mean"],
            return_std=summary["return_std"],
            return_min=summary["return_min"],
            return_max=summary["return_max"],
            normalised_mean=_normalised(cell, summary["return_mean"]),
            rewards="clipped" if data.rewards_clipped else "raw",
        ),
        preset=cell.preset,
        seed=cell.seed,
        variant=cell.variant,
    )


def _protocol(cell: Cell, data: Trajectories, targets: Sequence[float]) -> schema.Protocol:
    head = TanhHead if data.n_actions is None else CategoricalHead
    return schema.Protocol(
        context=cell.model.context,
        targets=tuple(targets),
        episodes=cell.eval.episodes,
        acting=cell.eval.acting,  # type: ignore[arg-type]  # EvalConfig has checked it
        sampling=head.sampling_at(cell.eval.temperature),
        return_scale=cell.task.return_scale,
        returns_to_go=cell.task.rewards,  # type: ignore[arg-type]  # DataConfig has checked it
        environment=dict(cell.task.env_kwargs) if cell.atari is None else dataclasses.asdict(cell.atari),
        max_steps=cell.max_steps,
        eval_seed=cell.eval.seed,
        normaliser=cell.task.normaliser,
        reference=cell.task.reference or None,  # type: ignore[arg-type]  # two numbers or none
    )


def _provenance(cell: Cell, device: torch.device, started: str, command: Sequence[str] | None) -> dict[str, Any]:
    commit, dirty = provenance.git_state()
    words = list(command if command is not None else sys.argv)
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
        "started": started,
        "config": cell.resolved(),
        "command": shlex.join(words),
    }


def _target_score(cell: Cell, result: TargetResult) -> schema.TargetScore:
    return schema.TargetScore(
        target=result.target,
        returns=result.returns,
        lengths=result.lengths,
        raw_mean=result.mean,
        normalised_mean=_normalised(cell, result.mean),
    )


def _scores(cell: Cell, progress: Progress, final: Sequence[TargetResult]) -> schema.Scores:
    """The last checkpoint is the score; the best intermediate one, when it is better, stands beside it."""
    last = schema.CheckpointScores(step=progress.step, targets=tuple(_target_score(cell, r) for r in final))
    best = None
    if progress.best is not None:
        fields = dict(progress.best)
        step = fields.pop("step")
        result = TargetResult(fields["target"], tuple(fields["returns"]), tuple(fields["lengths"]))
        if result.mean > final[0].mean:
            best = schema.CheckpointScores(step=step, targets=(_target_score(cell, result),))
        else:
            best = schema.CheckpointScores(step=progress.step, targets=(_target_score(cell, final[0]),))
    return schema.Scores(last=last, best=best)
