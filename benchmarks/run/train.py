"""Training: one loop for every backbone, CPU and CUDA, to be read from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from backbench.agents.agent import Agent, Windows
from backbench.agents.tokenizer import TOKENS_PER_STEP
from backbench.benchmarks.data.windows import WindowSampler
from backbench.benchmarks.plan.settings import Cell, TrainConfig
from backbench.benchmarks.run import checkpoint
from backbench.benchmarks.run.evaluate import Interrupted, TargetResult

WARM_UP = 3  # updates whose time does not count for throughput: allocator, caches, lazy initialisation


class Diverged(Exception):
    """The loss was NaN or infinite."""

    def __init__(self, step: int, lr: float) -> None:
        super().__init__(f"loss is not finite at step {step}, learning rate {lr:.3g}")
        self.step, self.lr = step, lr


@dataclass
class Progress:
    """What accumulates over a training run, resumes included; plain values, so that a checkpoint can hold it."""

    step: int = 0
    seconds: float = 0.0  # updates only: no evaluation, no checkpoint
    timed_seconds: float = 0.0  # of these, without the first few after each start
    timed_steps: int = 0
    losses: list[tuple[int, float]] = field(default_factory=list)  # (step, mean loss since the one before)
    evaluations: list[tuple[int, float]] = field(default_factory=list)  # (step, mean raw return, headline target)
    best: dict[str, Any] | None = None  # step, and the TargetResult's fields, of the best intermediate evaluation
    eval_seconds: float = 0.0

    def tokens_per_second(self, cell: Cell) -> float:
        """Training throughput over the timed updates; over all of them when there were too few."""
        steps, seconds = (self.timed_steps, self.timed_seconds) if self.timed_steps else (self.step, self.seconds)
        tokens = steps * cell.train.batch_size * cell.model.context * TOKENS_PER_STEP
        return tokens / seconds if seconds > 0 else 0.0


class Clock:
    """Times updates between two waits for the device."""

    def __init__(self, progress: Progress, device: torch.device) -> None:
        self.progress, self.device = progress, device
        self.warm = progress.step + WARM_UP
        self.begun: tuple[int, float] | None = None

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def start(self) -> None:
        self.begun = (self.progress.step, self._now())

    def stop(self) -> None:
        if self.begun is not None:
            (step, begun), self.begun = self.begun, None
            elapsed = self._now() - begun
            self.progress.seconds += elapsed
            if step >= self.warm:
                self.progress.timed_seconds += elapsed
                self.progress.timed_steps += self.progress.step - step


def learning_rate(step: int, config: TrainConfig) -> float:
    """Rate of update number ``step`` (from 0): linear warm-up, then constant, or cosine down to a tenth."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    if config.schedule == "constant":
        return config.lr
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.lr * (0.1 + 0.45 * (1.0 + math.cos(math.pi * progress)))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms, embeddings and what is marked (Mamba's A and D) do not."""
    exempt = {
        id(p)
        for module in model.modules()
        if isinstance(module, nn.Embedding | nn.LayerNorm)
        for p in module.parameters(recurse=False)
    }
    groups: tuple[list[Tensor], list[Tensor]] = ([], [])
    for p in model.parameters():
        if p.requires_grad:
            decays = p.ndim >= 2 and id(p) not in exempt and not getattr(p, "_no_weight_decay", False)
            groups[0 if decays else 1].append(p)
    return [{"params": groups[0], "weight_decay": weight_decay}, {"params": groups[1], "weight_decay": 0.0}]


def make_optimizer(model: nn.Module, config: TrainConfig, device: torch.device) -> torch.optim.AdamW:
    """AdamW: one kernel for all parameters on CUDA; on a CPU that gains nothing, and foreach is as good."""
    groups = parameter_groups(model, config.weight_decay)
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=device.type == "cuda")


def update(
    model: nn.Module,
    loss_of: Callable[[Windows], Tensor],
    batch: Windows,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
) -> Tensor:
    """One update of ``model``; the loss before it, on the device. Nothing in it waits for the device."""
    with torch.autocast(batch.states.device.type, torch.bfloat16, enabled=config.bf16):
        loss = loss_of(batch)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if config.clip > 0:
        nn.utils.clip_grad_norm_(model.parameters(), config.clip)
    optimizer.step()
    return loss.detach()


def train(
    cell: Cell,
    agent: Agent,
    sampler: WindowSampler,
    device: torch.device,
    folder: Path,
    evaluate: Callable[[], TargetResult],
    report: Callable[[dict[str, Any]], None],
    should_stop: Callable[[], bool],
) -> Progress:
    """Train ``agent`` in place, from the checkpoint in ``folder`` if there is one.

    Leaves ``last.safetensors`` in ``folder`` and, where there are evaluations before the last one, the best of them
    in ``best.safetensors``.

    Args:
        cell: its settings.
        agent: on ``device``, with the weights of the cell's seed.
        sampler: batches by number.
        folder: of the cell's checkpoints.
        evaluate: scores the agent as it is on the headline target.
        report: gets a dictionary at every line of progress.
        should_stop: asked after every update.

    Raises:
        Diverged: a loss was not finite.
        Interrupted: ``should_stop`` answered true; a checkpoint was written.
        CheckpointError: a checkpoint cannot be read or written.
    """
    config = cell.train
    state_path = folder / "state.pt"
    cuda = device.type == "cuda"
    optimizer = make_optimizer(agent, config, device)
    loss_of = torch.compile(agent.loss) if config.compile else agent.loss
    progress = Progress()
    pending: list[Tensor] = []  # losses since the last line of progress, still on the device
    state = checkpoint.load(state_path)
    if state is not None:
        try:
            agent.load_state_dict(state["agent"])
            optimizer.load_state_dict(state["optimizer"])
            torch.set_rng_state(state["rng"])
            if cuda:
                torch.cuda.set_rng_state(state["cuda_rng"], device)
            pending = list(state["pending"].to(device))
            progress = Progress(**state["progress"])
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise checkpoint.CheckpointError(
                f"checkpoint {state_path} is not of this cell ({reason[:120]}); move it away to start anew"
            ) from error

    # Evaluations before the last one, which is scored by the caller.
    due = {round(config.steps * i / config.evaluations) for i in range(1, config.evaluations)}
    clock = Clock(progress, device)
    agent.train()
    while progress.step < config.steps:
        step = progress.step
        if clock.begun is None or step == clock.warm:
            clock.stop()
            clock.start()
        lr = learning_rate(step, config)
        for group in optimizer.param_groups:
            group["lr"] = lr
        pending.append(update(agent, loss_of, sampler.batch(step), optimizer, config))
        progress.step = step + 1

        stopping, last = should_stop(), progress.step == config.steps
        line = last or progress.step % config.log_every == 0
        keep = last or stopping or progress.step % config.checkpoint_every == 0
        if not (line or keep or progress.step in due):
            continue

        # Only from here on is the device waited for; a loss that is not finite is found here, with its step.
        clock.stop()
        losses = torch.stack(pending).float().cpu()
        for place, value in enumerate(losses.tolist(), start=progress.step - len(losses)):
            if not math.isfinite(value):
                raise Diverged(place + 1, learning_rate(place, config))
        if line:
            progress.losses.append((progress.step, float(losses.mean())))
            pending = []
            report({"kind": "train", "step": progress.step, "loss": progress.losses[-1][1], "lr": lr,
                    "tokens_per_s": progress.tokens_per_second(cell)})  # fmt: skip
        if progress.step in due:
            began = time.perf_counter()
            result = evaluate()
            progress.eval_seconds += time.perf_counter() - began
            progress.evaluations.append((progress.step, result.mean))
            report({"kind": "eval", "step": progress.step, "return": result.mean})
            if progress.best is None or result.mean > max(v for _, v in progress.evaluations[:-1]):
                progress.best = {"step": progress.step, **asdict(result)}
                weights = agent.state_dict()
                checkpoint.save_weights(folder / "best.safetensors", weights, {"cell": cell.key})
        if keep:
            checkpoint.save(
                state_path,
                {
                    "progress": vars(progress),
                    "pending": torch.stack(pending) if pending else torch.zeros(0),
                    "agent": agent.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "rng": torch.get_rng_state(),
                    "cuda_rng": torch.cuda.get_rng_state(device) if cuda else None,
                },
            )
        if stopping and not last:
            raise Interrupted
    checkpoint.save_weights(folder / "last.safetensors", agent.state_dict(), {"cell": cell.key})
    return progress
