"""Training: one loop for every backbone, on CPU and CUDA. Read ``train`` first."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from backbench.agents.agent import Agent, Windows
from backbench.benchmarks.data.windows import WindowSampler
from backbench.benchmarks.plan.settings import Cell, TrainConfig
from backbench.benchmarks.run.checkpoint import BEST, LAST, CheckpointError, Checkpoints
from backbench.benchmarks.run.evaluate import Interrupted, TargetResult
from backbench.benchmarks.run.graphs import WARM_UP, Graphed, Update
from backbench.errors import first_line, require

if TYPE_CHECKING:
    from backbench.benchmarks.run.executors.team import Team

Score = Callable[[], list[TargetResult]]


class Diverged(Exception):
    """The loss was NaN or infinite."""

    def __init__(self, step: int, lr: float) -> None:
        super().__init__(f"loss is not finite at step {step}, learning rate {lr:.3g}")
        self.step, self.lr = step, lr


@dataclass(frozen=True)
class Caller:
    """Who started the run: ``report`` gets a dictionary for every event, ``should_stop`` is asked often."""

    report: Callable[[dict[str, Any]], None]
    should_stop: Callable[[], bool]
    team: Team | None = None  # the processes that train the cell together, if there are several


@dataclass
class Progress:
    """What a training run accumulates, across resumes. Plain values, so that a checkpoint can contain them."""

    step: int = 0
    seconds: float = 0.0  # updates only: no evaluation, no checkpoint
    timed_seconds: float = 0.0  # of these, without the first few after each start
    timed_steps: int = 0
    losses: list[tuple[int, float]] = field(default_factory=list)  # (step, mean loss since the last entry)
    evaluations: list[tuple[int, float]] = field(default_factory=list)  # (step, mean raw return of the first target)
    best: dict[str, Any] | None = None  # step and TargetResult's fields of the best intermediate evaluation
    eval_seconds: float = 0.0

    def tokens_per_second(self, cell: Cell) -> float:
        """Training throughput over the timed updates, or over all if there were too few."""
        steps, seconds = (self.timed_steps, self.timed_seconds) if self.timed_steps else (self.step, self.seconds)
        tokens = steps * cell.train.batch_size * cell.model.context * len(cell.model.tokens)
        return tokens / seconds if seconds > 0 else 0.0

    def since_line(self, config: TrainConfig) -> int:
        """Updates since the last line of the loss curve."""
        return self.step - (self.losses[-1][0] if self.losses else 0)

    @classmethod
    def restored(cls, content: Mapping[str, Any], config: TrainConfig) -> Self:
        """From a checkpoint's plain values; ValueError or TypeError if no training with ``config`` comes there."""
        found = cls(**content)
        steps = [0, *(step for step, _ in found.losses), found.step, config.steps]
        whole = all(type(step) is int for step in (*steps, found.timed_steps))
        require(whole and steps == sorted(steps), f"its step is {found.step!r} of {config.steps}")
        numbers = (found.seconds, found.timed_seconds, found.eval_seconds)
        require(all(type(n) is float and math.isfinite(n) for n in numbers), "its times are no numbers")
        return found

    def evaluate(self, score: Score, caller: Caller) -> list[TargetResult]:
        """Time an evaluation and report the mean return of its first target."""
        began = time.perf_counter()
        results = score()
        self.eval_seconds += time.perf_counter() - began
        caller.report({"kind": "eval", "step": self.step, "return": results[0].mean})
        return results


def _shaped(value: Any, shape: tuple[int, ...]) -> Tensor:
    """``value`` if it is a tensor of this shape, else a ValueError."""
    require(isinstance(value, Tensor) and tuple(value.shape) == shape, f"a tensor does not have the shape {shape}")
    assert isinstance(value, Tensor)
    return value


def learning_rate(step: int, config: TrainConfig) -> float:
    """Learning rate of update ``step`` (from 0): linear warm-up, then constant, or a cosine.

    ``cosine`` goes down to a tenth of the peak. ``cosine_floor`` goes towards zero, but never below a tenth (Decision
    Transformer's code for Atari). Both are at their lowest from ``schedule_steps`` on.
    """
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    if config.schedule == "constant":
        return config.lr
    span = max(1, (config.schedule_steps or config.steps) - config.warmup)
    cosine = 1.0 + math.cos(math.pi * min(1.0, (step - config.warmup) / span))
    return config.lr * (0.1 + 0.45 * cosine if config.schedule == "cosine" else max(0.1, 0.5 * cosine))


def make_optimizer(model: nn.Module, config: TrainConfig, device: torch.device) -> AdamW:
    """AdamW. On CUDA it is fused (on a CPU that gains nothing), with a tensor as learning rate, which a graph reads.

    Matrices decay. Biases, norms, embeddings and marked parameters (Mamba's A and D) do so only if ``decay`` is all.
    """
    plain = [module for module in model.modules() if isinstance(module, nn.Embedding | nn.LayerNorm)]
    exempt = {id(p) for module in plain for p in module.parameters(recurse=False)}
    exempt |= {id(p) for p in model.parameters() if p.ndim < 2 or getattr(p, "_no_weight_decay", False)}
    if config.decay == "all":
        exempt = set()
    trained = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if id(p) not in exempt], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if id(p) in exempt], "weight_decay": 0.0},
    ]
    cuda = device.type == "cuda"
    lr = torch.tensor(config.lr, device=device) if cuda else config.lr
    return AdamW(groups, lr=lr, betas=config.betas, fused=cuda, capturable=cuda)


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """For the next step. A rate that is a tensor keeps its memory."""
    for group in optimizer.param_groups:
        group["lr"] = group["lr"].fill_(lr) if isinstance(group["lr"], Tensor) else lr


def update(
    model: nn.Module, loss_of: Callable[[Windows], Tensor], batch: Windows, optimizer: Optimizer, config: TrainConfig
) -> Tensor:
    """One update of ``model``. Returns the loss before it, on the device, without waiting for the device."""
    with torch.autocast(batch.states.device.type, torch.bfloat16, enabled=config.bf16):
        loss = loss_of(batch)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if config.clip > 0:
        nn.utils.clip_grad_norm_(model.parameters(), config.clip)
    optimizer.step()
    return loss.detach()


def loss_of(agent: Agent, config: TrainConfig) -> Callable[[Windows], Tensor]:
    """``agent.loss``, compiled if ``config`` says so."""
    return torch.compile(agent.loss) if config.compile else agent.loss


def updater(agent: Agent, optimizer: Optimizer, config: TrainConfig) -> Update:
    """``update`` of ``agent``, compiled and captured as ``config`` says. It may be called with batches of one shape."""
    plain = partial(update, agent, loss_of(agent, config), optimizer=optimizer, config=config)
    return Graphed(plain) if config.cuda_graphs else plain


class State:
    """All that changes during training. ``save`` and ``resume`` keep every bit."""

    def __init__(self, cell: Cell, agent: Agent, device: torch.device, checkpoints: Checkpoints) -> None:
        self.cell, self.agent, self.device, self.checkpoints = cell, agent, device, checkpoints
        self.optimizer = make_optimizer(agent, cell.train, device)
        self.progress = Progress()
        self.pending: list[Tensor] = []  # losses since the last line of progress, still on the device
        self.resume()
        self.warm = self.progress.step + WARM_UP + cell.train.cuda_graphs  # the capture
        self.begun: tuple[int, float] | None = None  # step and time since when updates are timed

    def resume(self) -> None:
        """Continue from the checkpoint, if there is one; ``CheckpointError`` if it is damaged or of another cell."""
        if (found := self.checkpoints.load()) is None:
            return
        path, state = found
        try:
            require(state["cell"] == self.cell.key, f"it is of cell {str(state['cell'])[:100]}")
            self.progress = Progress.restored(state["progress"], self.cell.train)
            self.pending = list(_shaped(state["pending"], (self.progress.since_line(self.cell.train),)).to(self.device))
            self.agent.load_state_dict(state["agent"])
            self._restore_optimizer(state["optimizer"])
            torch.set_rng_state(state["rng"])
            if self.device.type == "cuda":
                torch.cuda.set_rng_state(state["cuda_rng"], self.device)
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"checkpoint {path} is not of this cell ({first_line(error, 120)}); move it away to start over"
            ) from error

    def _restore_optimizer(self, moments: Mapping[int, Mapping[str, Tensor]]) -> None:
        """AdamW takes any shapes and settings, and fails or goes wrong later; so the moments alone are restored."""
        fresh = self.optimizer.state_dict()["param_groups"]
        parameters = dict(enumerate(p for group in self.optimizer.param_groups for p in group["params"]))
        for index, moment in moments.items():
            for name, value in moment.items():
                _shaped(value, () if name == "step" else tuple(parameters[index].shape))
        self.optimizer.load_state_dict({"state": dict(moments), "param_groups": fresh})

    def save(self) -> None:
        content = {
            "cell": self.cell.key,
            "progress": vars(self.progress),
            "pending": torch.stack(self.pending) if self.pending else torch.zeros(0),
            "agent": self.agent.state_dict(),
            "optimizer": self.optimizer.state_dict()["state"],
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }
        self.checkpoints.save(content)

    def start_clock(self) -> None:
        """Time updates from here, or from here again after the warm-up; ignored while the clock runs."""
        if self.begun is None or self.progress.step == self.warm:
            self.stop_clock()
            self.begun = (self.progress.step, self._now())

    def stop_clock(self) -> None:
        """Wait for the device and count the updates since the start."""
        if self.begun is not None:
            (step, begun), self.begun = self.begun, None
            elapsed = self._now() - begun
            self.progress.seconds += elapsed
            if step >= self.warm:
                self.progress.timed_seconds += elapsed
                self.progress.timed_steps += self.progress.step - step

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def save_weights(self, name: str) -> None:
        self.checkpoints.save_weights(name, self.agent.state_dict(), {"cell": self.cell.key})

    def mean_loss(self) -> float:
        """Mean of the pending losses. Raises ``Diverged``, with the step, if one is not finite."""
        losses = torch.stack(self.pending).float().cpu()
        for step, value in enumerate(losses.tolist(), start=self.progress.step - len(losses)):
            if not math.isfinite(value):
                raise Diverged(step + 1, learning_rate(step, self.cell.train))
        return float(losses.mean())


def train(
    cell: Cell, agent: Agent, sampler: WindowSampler, checkpoints: Checkpoints, score: Score, caller: Caller
) -> Progress:
    """Train ``agent``, on the sampler's device, in place, from the newest checkpoint if there is one.

    ``score`` evaluates it as it is, on the headline target. Writes ``last.safetensors`` and, if there are intermediate
    evaluations, ``best.safetensors``. Raises ``Diverged`` for a loss that is not finite, ``Interrupted`` after a
    checkpoint if ``caller.should_stop`` returned true, ``CheckpointError``, and ``claims.Lost`` if another process
    took the cell.
    """
    config, state = cell.train, State(cell, agent, sampler.device, checkpoints)
    if caller.team is None:
        alone = updater(agent, state.optimizer, config)
        update_on: Callable[[Windows, int], Tensor] = lambda batch, _: alone(batch)  # noqa: E731
    else:
        update_on = caller.team.updater(agent, state.optimizer, loss_of(agent, config))
    progress = state.progress
    # Steps of intermediate evaluations. The last checkpoint is scored elsewhere.
    due = {round(config.steps * i / config.evaluations) for i in range(1, config.evaluations)}
    agent.train()
    while progress.step < config.steps:
        step = progress.step
        state.start_clock()
        lr = learning_rate(step, config)
        set_learning_rate(state.optimizer, lr)
        state.pending.append(update_on(sampler.batch(step), step))
        progress.step = step + 1
        stopping, last = caller.should_stop(), progress.step == config.steps
        line = last or progress.step % config.log_every == 0
        keep = last or stopping or progress.step % config.checkpoint_every == 0
        if not (line or keep or progress.step in due):
            continue
        state.stop_clock()
        loss = state.mean_loss()
        if line:
            progress.losses.append((progress.step, loss))
            state.pending = []
            speed = progress.tokens_per_second(cell)
            caller.report({"kind": "train", "step": progress.step, "loss": loss, "lr": lr, "tokens_per_s": speed})
        if progress.step in due:
            result = progress.evaluate(score, caller)[0]
            scored = cell.eval.curve_episodes == 0  # the best of unscored evaluations has no score to show
            if scored and (progress.best is None or result.mean > max(value for _, value in progress.evaluations)):
                progress.best = {"step": progress.step, **asdict(result)}
                state.save_weights(BEST)
            progress.evaluations.append((progress.step, result.mean))
        if keep:
            state.save()
        if stopping and not last:
            raise Interrupted
    state.save_weights(LAST)
    return progress
