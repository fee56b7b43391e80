"""Check the contract of a backbone: run every rule and report what it measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from backbench.backbones.build import build
from backbench.backbones.contract import Backbone, Causal, Spec
from backbench.backbones.rules import RULES, Candidate


@dataclass(frozen=True)
class CheckResult:
    """One rule of the contract, whether the backbone keeps it, and what was measured."""

    name: str
    passed: bool
    detail: str


def check(
    name: str | type[Causal], options: Mapping[str, Any] | object | None = None, spec: Spec | None = None
) -> list[CheckResult]:
    """Check every rule of the contract on a backbone, on the CPU in float32, within seconds.

    Args:
        name: a registered name, ``package.module:Class``, or the class itself.
        options: the options to change.
        spec: default: width 32, two layers, dropout 0.1, contexts of up to 21 tokens.

    Returns:
        One result per rule, in a fixed order. If a rule raises, it has failed, and the detail is the error.

    Raises:
        UserError: the backbone cannot be built at all.
    """
    spec = spec or Spec(d_model=32, n_layers=2, max_length=21)

    def make() -> Backbone:
        torch.manual_seed(0)
        return build(name, options, spec).eval()

    results = []
    with torch.random.fork_rng(devices=[]):
        make()  # raise the user's mistakes here, before they look like faults of the backbone
        candidate = Candidate(make, spec, min(spec.max_length, 24))
        for title, rule in RULES.items():
            try:
                passed, detail = rule(candidate)
            except Exception as error:  # a backbone may raise anything, and its author needs to read it
                passed, detail = False, f"raised {type(error).__name__}: {error}"
            results.append(CheckResult(title, passed, detail))
    return results


def rules() -> list[tuple[str, str]]:
    """The name of each rule and what it requires."""
    return [(title, rule.__doc__ or "") for title, rule in RULES.items()]
