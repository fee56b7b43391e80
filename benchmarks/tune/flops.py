"""FLOPs of training that trials cost, known before they run: so ``--tune 2e15flops`` gives every backbone as many."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from backbench.benchmarks.plan.assemble import make_backbone
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.plan.tune import Tuning
from backbench.errors import UserError, require
from backbench.leaderboard.record.outcome import PASSES
from backbench.text import plain

_KNOWN: dict[str, float | None] = {}


def affordable(asked: Tuning, backbone: str, settings: Sequence[tuple[str, ...]], most: int) -> int:
    """How many more settings of ``backbone`` the budget allows after ``settings``, up to ``most``, at their mean cost.

    Raises:
        UserError: its FLOPs are not known, or not even two settings fit.
    """
    costs = [_of_setting(asked, backbone, setting) for setting in settings or [asked.inside]]
    mean = sum(costs) / len(costs)
    if not settings:
        budget = f"--tune {asked.budget.word}: {plain(backbone)}"
        require(mean > 0, f"{budget} multiplies nothing; give a number of settings")
        said = f"{budget} needs {mean:.2e} FLOPs for a setting; give twice that or more"
        require(2 * mean <= asked.budget.flops, said)
    left = asked.budget.flops - (sum(costs) if settings else 0)
    return max(0, min(most, int(left / mean + 1e-9)))


def _of_setting(asked: Tuning, backbone: str, setting: tuple[str, ...]) -> float:
    """FLOPs of the training of its cells, forward and backward, of the backbone alone."""
    total = 0.0
    for cell in asked.trials_of({backbone: [setting]}):
        of_token = _per_token(cell)
        if of_token is None:
            said = f"the FLOPs of {plain(backbone)} are unknown; define flops, or give a number of settings"
            raise UserError(f"--tune {asked.budget.word}: {said}")
        tokens = cell.train.steps * cell.train.batch_size * cell.model.context * len(cell.model.tokens)
        total += PASSES * of_token * tokens
    return total


def _per_token(cell: Cell) -> float | None:
    model = repr((cell.backbone, sorted(cell.options.items()), cell.model))
    if model not in _KNOWN:  # most settings leave the model as it is
        with torch.random.fork_rng(devices=[]):
            built = make_backbone(cell)
        _KNOWN[model] = built.flops(built.spec.max_length)
    return _KNOWN[model]
