"""Backbones that fail, each in its own way. Named on the command line as ``planted_backbones:Class``."""

from __future__ import annotations

import os
import signal
from typing import Any

import torch
from torch import Tensor, nn

from backbench.backbones.contract import Mixer, Spec


class Sound(Mixer):
    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        self.linear = nn.Linear(spec.d_model, spec.d_model)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += self.training
        return self.linear(x)  # type: ignore[no-any-return]


class SeesTheFuture(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(1, keepdim=True))


class SeesOtherRows(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(0, keepdim=True))


class NotANumber(Sound):
    """From the eighth update on."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y * float("nan") if self.calls >= 8 else y


class NotANumberActing(Sound):
    """Trains well."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1.0 if self.training else float("nan"))


class Raises(Sound):
    def forward(self, x: Tensor) -> Tensor:
        if self.calls == 5:
            raise RuntimeError("the fifth update\nis one too many")
        return super().forward(x)


class RaisesWhenBuilt(Sound):
    def __init__(self, options: Any, spec: Spec) -> None:
        raise ZeroDivisionError("no such width")


class RaisesSilently(Sound):
    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError


class WrongShape(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, :-1]


class NegativeCost(Sound):
    def flops(self, length: int) -> float:
        return -1e12


class Exits(Sound):
    def forward(self, x: Tensor) -> Tensor:
        os._exit(0)


class KilledWhileTraining(Sound):
    def forward(self, x: Tensor) -> Tensor:
        if self.calls == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)


class ReadsItsWeights(Sound):
    """Legal, but not possible for a tensor without memory."""

    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        self.scale = float(torch.linspace(0.5, 1.0, 5).tolist()[-1])
