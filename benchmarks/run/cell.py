"""One cell, from its settings to its record: ``run_cell(Cell(...), results) -> Record``. Needs no Hydra or MLflow."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backbench.agents.build import ModelSettings
from backbench.backbones import BACKBONES
from backbench.backbones.check import check
from backbench.backbones.kernels import forget_ran
from backbench.benchmarks.data import store
from backbench.benchmarks.data.processes import steady
from backbench.benchmarks.data.split import Indices, split
from backbench.benchmarks.data.trajectories import Trajectories, by_rule
from backbench.benchmarks.data.windows import SAMPLERS, ShiftedSampler, WindowSampler
from backbench.benchmarks.environments.kind import Sizes
from backbench.benchmarks.plan.assemble import make_agent, seen
from backbench.benchmarks.plan.settings import Cell, EvalConfig
from backbench.benchmarks.run import results as files
from backbench.benchmarks.run.checkpoint import Checkpoints
from backbench.benchmarks.run.evaluate import Interrupted, Longer, Play, evaluate
from backbench.benchmarks.run.executors import Job
from backbench.benchmarks.run.held_out import held_out_loss
from backbench.benchmarks.run.record import Draft, Stopwatch
from backbench.benchmarks.run.train import Caller, train
from backbench.claims import Claim, Held, Lost, beating
from backbench.errors import UserError, require
from backbench.leaderboard.record.schema import Record

FOREIGN = ("local", "minari")  # sources of data sets that other programs recorded, with spaces of their own
STEPS_CHECKED = 7  # environment steps in which a foreign backbone could see the future


class BrokenContract(RuntimeError):
    """A backbone sees what it must not."""


def choose_device(name: str, cells: Iterable[Cell] = ()) -> torch.device:
    """The device called ``name``: auto, cpu, cuda or cuda:N. ``auto`` is CUDA if there is a GPU.

    Raises ``UserError`` for another name, a GPU that torch does not see, or a device that one of ``cells`` cannot use.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    parts = re.fullmatch(r"(cpu|cuda)(?::(\d+))?", name)
    if parts is None:
        raise UserError(f"unknown device '{name}'; give auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count()
    if parts[1] == "cuda" and int(parts[2] or 0) >= count:
        raise UserError(f"device '{name}' is not available: torch {torch.__version__} sees {count} GPUs")
    if parts[1] == "cpu" and any(cell.train.cuda_graphs for cell in cells):
        raise UserError(f"train.cuda_graphs=true needs a GPU, and the device is {name}; remove the setting")
    return torch.device(name)


def run_cell(
    cell: Cell,
    results: Path,
    device: str = "auto",
    report: Callable[[dict[str, Any]], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
    command: Sequence[str] | None = None,
) -> Record:
    """Train, evaluate and record one cell, resuming from a checkpoint if there is one.

    Writes the record to ``results/records`` and weights to ``results/checkpoints``. If training diverges or the
    backbone raises an error, the record says so and has the status ``failed``.

    Args:
        device: see ``choose_device``.
        report: gets a dictionary for every event of training and evaluation.
        should_stop: asked between updates and between evaluation steps.
        command: words of the command for the record; None for this process's own.

    Raises:
        Interrupted: ``should_stop`` returned true. The same call resumes.
        UserError: settings, data or a checkpoint that the user must fix. There is no record.
        OSError: the results cannot be written.
    """
    choose_device(device, [cell])
    check_data(cell, store.read(cell.task.data_id))  # before anything is written
    try:
        claim = files.claim(cell, results)
    except Held as held:
        raise UserError(f"{held} runs {cell.key} in {results}; let it finish, or end it") from held
    job = Job(results, device, tuple(sys.argv if command is None else command))
    with beating(claim):
        return run_claimed(cell, job, claim, Caller(report, should_stop))[0]


def run_claimed(cell: Cell, job: Job, claim: Claim, caller: Caller) -> tuple[Record, bool]:
    """``run_cell`` for the process that has the claim: the cell's record, and whether this call made it.

    Raises ``Lost`` too, if another process took the claim.
    """
    watch = Stopwatch()
    where = choose_device(job.device, [cell])
    with steady(torch.get_num_threads(), where.type):
        return _run(cell, job, claim, caller, where, watch)


def _run(
    cell: Cell, job: Job, claim: Claim, caller: Caller, where: torch.device, watch: Stopwatch
) -> tuple[Record, bool]:
    data = store.read(cell.task.data_id)
    check_data(cell, data)
    data = seen(cell, data)
    targets = cell.targets or by_rule(data, cell.task.rewards != "raw")
    play, curve = Play.of(cell, targets), Play.for_curve(cell, targets)
    draft = Draft(cell, data, targets, where, job.command, watch)
    forget_ran()
    try:
        check_foreign(cell)
        agent = make_agent(cell, data).to(where)
        where = next(agent.parameters()).device  # with its number
        sampler, held_out = make_sampler(cell, data, where)
        score = partial(evaluate, agent, device=where, should_stop=caller.should_stop)
        with _team(cell, job, where) as team:
            asked = replace(caller, team=team)
            progress = train(cell, agent, sampler, Checkpoints(claim), partial(score, curve), asked)
        caller.report({"kind": "evaluating", "step": progress.step})
        final = progress.evaluate(partial(score, play), caller)
        began = time.perf_counter()
        beyond = [(one, one.evaluate(agent, where, caller.should_stop)) for one in Longer.all_of(cell, targets)]
        unseen = held_out_loss(agent, sampler, held_out, caller.should_stop) if len(held_out) else None
        progress.eval_seconds += time.perf_counter() - began
        record = draft.done(agent, progress, final, beyond, unseen)
    except (Interrupted, Lost, UserError, OSError):
        raise
    except Exception as error:  # of a backbone, or of values that no record can contain: the result of this cell
        record = draft.failed(error)
    accepted = files.accept(cell, job.results, record, claim)
    return accepted, accepted == record


def _team(cell: Cell, job: Job, where: torch.device) -> AbstractContextManager[Any]:
    """The processes that train the cell together; nothing of torch.distributed is imported for a single one."""
    if cell.train.processes == 1 and os.environ.get("WORLD_SIZE", "1") == "1":
        return nullcontext()
    from backbench.benchmarks.run.executors.team import team

    return team(cell, job, where)


def check_foreign(cell: Cell) -> None:
    """Raise ``BrokenContract`` if a backbone, not Backbench's own, sees the future or other rows.

    Its scores would mean nothing. In the cell's process, so that a crash of foreign code loses this cell alone.
    """
    if BACKBONES.origin(cell.backbone) == "built-in":
        return
    spec = ModelSettings(**vars(cell.model)).spec
    short = replace(spec, max_length=STEPS_CHECKED * spec.tokens_per_step)
    for one in check(cell.backbone, cell.options, short, only=("causality", "batch independence")):
        # What raises or is not finite fails in training too, where the reason is plainer.
        if not one.passed and not one.detail.startswith("raised ") and "nan" not in one.detail:
            raise BrokenContract(f"{one.name}: {one.detail}; mend it, bench check {cell.backbone} says more")


def make_sampler(cell: Cell, data: Trajectories, device: torch.device) -> tuple[WindowSampler, Indices]:
    """The windows of training from ``data`` as the agent sees them, and indices of the held-out episodes."""
    sampling = SAMPLERS[cell.data.windows]
    clipped = cell.task.rewards != "raw"
    sampler = sampling(data, cell.model.context, cell.train.batch_size, cell.seed, device, clipped)
    trained, held_out = episodes_of(cell, data)
    if trained is not None:
        sampler.keep_to(trained)
    return sampler, held_out


def episodes_of(cell: Cell, data: Trajectories) -> tuple[Indices | None, Indices]:
    """Indices of the episodes that training uses, None for all, and of those held out. UserError if there are fewer."""
    chosen, nothing = cell.data, np.empty(0, dtype=np.int64)
    if chosen.top < 1:
        return data.best(chosen.top), nothing
    if not chosen.episodes and not chosen.held_out:
        return None, nothing
    return split(data, chosen.held_out, chosen.episodes, cell.seed)


def check_data(cell: Cell, data: Trajectories) -> None:
    """Raise ``UserError`` unless unfiltered data have the environment's states and actions, and enough steps and
    episodes."""
    cell.task.check_observed(data.state_shape[0])
    action_dim = data.actions.shape[1] if data.n_actions is None else 0
    recorded = partial(store.recorded_spaces, data.name) if cell.data.source in FOREIGN else None
    cell.kind.check_data(cell.environment, data.name, Sizes(data.state_shape, data.n_actions, action_dim), recorded)
    require(
        data.n_actions is not None or cell.eval.temperature == EvalConfig().temperature,
        "override eval.temperature: only discrete actions are sampled; remove it",
    )
    trained, _ = episodes_of(cell, data)
    steps = int(data.lengths[slice(None) if trained is None else trained].sum())
    least = ShiftedSampler.LEFT_OUT * cell.model.context
    require(
        cell.data.windows != "shifted" or steps > least,
        f"data.windows=shifted: data set {data.name!r} has {steps:,} steps; it needs more than {least:,}, three times "
        "model.context: give a smaller model.context or data.windows=uniform",
    )
    longest = int(data.lengths.max())
    require(
        cell.data.windows != "episode" or longest <= cell.model.context,
        f"data.windows=episode: data set {data.name!r} has episodes of {longest:,} steps, and model.context="
        f"{cell.model.context} holds fewer; give model.context={longest} or data.windows=uniform",
    )
