"""Eigenvalues of the matrices that carry a state from token to token, and time constants on trajectories.

"Mamba as Decision Maker" (arXiv:2406.02013) shows the eigenvalues of A to say what its branches look at. The decay of a
state is exp(dt A), and dt depends on the token: only a time constant says for how long a state lasts.
"""

from dataclasses import dataclass
from functools import singledispatch
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backbench.agents.agent import Agent, Windows
from backbench.backbones.contract import Mixer
from backbench.backbones.kernels.linear.naive import Recurrence
from backbench.backbones.mixers.deltanet import GatedDeltaNet
from backbench.backbones.mixers.diagonal import DiagonalMixer
from backbench.backbones.mixers.gloma import GLoMa
from backbench.backbones.mixers.linear import LinearMixer
from backbench.backbones.mixers.lru import LRU
from backbench.backbones.mixers.mamba import Mamba, MambaBlock
from backbench.backbones.mixers.mamba2 import Mamba2
from backbench.backbones.mixers.mlstm import MLSTM
from backbench.backbones.mixers.retnet import RetNet
from backbench.backbones.mixers.rglru import RGLRU
from backbench.backbones.mixers.s5 import S5
from backbench.backbones.mixers.slstm import SLSTM
from backbench.benchmarks.studies.reach.layers import PER_TOKEN, REASONS, UNKNOWN, chosen, evaluating, inputs, mixers

Domain = Literal["continuous", "discrete"]
Spectra = dict[str, tuple[Tensor, Domain]]  # branch -> eigenvalues
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of one branch of a layer.

    They are stable if ``continuous`` ones have a negative real part, and if ``discrete`` ones, the decays of a token,
    are inside the unit circle.
    """

    layer: int
    branch: str  # "global" and "local" of GLoMa, "shared" if both have one block; else ""
    values: NDArray[np.complex128]  # (n,)
    domain: Domain


@dataclass(frozen=True)
class TimeConstants:
    """After so many steps, a state of one branch of a layer is down to 1/e, if all tokens were like those measured."""

    layer: int
    branch: str
    token: str  # "return", "state" or "action": the kind of the tokens
    steps: NDArray[np.float64]  # (quantiles,) environment steps, infinite where nothing decays


def eigenvalues(agent: Agent) -> list[Spectrum]:
    """The eigenvalues that do not depend on tokens, layer by layer. Empty if no layer has them, see `without`.

    Mamba, GLoMa, Mamba-2 and Gated DeltaNet: A (of the latter two one number a head). S5: L, of conjugate pairs one.
    LRU: the decays, of conjugate pairs one. RetNet: the decay of each head. RG-LRU: a^c, its strongest decay.
    For the start, give a fresh agent: ``plan.assemble.make_agent`` makes the one that training starts from.
    """
    with torch.no_grad():
        return [
            Spectrum(layer, branch, values.flatten().cpu().numpy().astype(np.complex128), domain)
            for layer, mixer in enumerate(mixers(agent))
            for branch, (values, domain) in spectra(mixer).items()
        ]


def time_constants(
    agent: Agent, windows: Windows, at: Tensor | None = None, quantiles: tuple[float, ...] = QUANTILES
) -> list[TimeConstants]:
    """Quantiles of -1 / (log |decay| * tokens per step) over states, windows and their steps ``at`` (batch, K).

    Layer by layer; empty if no layer has decays, see `without`. Quantiles are values that occur. Of a delta rule, only
    the decay beside it counts. GLoMa's local branch forgets after its window in any case. Raises UserError if ``at``
    holds no real step.
    """
    kept = chosen(windows, at)
    kinds, found = agent.tokenizer.kinds, []
    with evaluating(agent), torch.no_grad():
        for layer, (mixer, x) in enumerate(zip(mixers(agent), inputs(agent, windows), strict=True)):
            for branch, log_decay in log_decays(mixer, x).items():
                for place, kind in enumerate(kinds):
                    rates = -log_decay[:, place :: len(kinds)][kept].flatten().double().cpu().numpy()
                    with np.errstate(divide="ignore"):
                        steps = 1 / (np.maximum(rates, 0) * len(kinds))
                    points = np.quantile(steps, quantiles, method="inverted_cdf")
                    found.append(TimeConstants(layer, branch, kind, points))
    return found


def without(agent: Agent, what: Literal["eigenvalues", "time constants"]) -> list[str]:
    """One line for each kind of layer that has none: its class and the reason. Empty if all layers have them."""
    if not mixers(agent):
        return [f"{type(agent.backbone).__name__}: a complete backbone, whose layers are not known"]
    lines: dict[str, None] = {}
    token = next(agent.parameters()).new_zeros(1, 1, agent.backbone.spec.d_model)
    with torch.no_grad():
        for mixer in mixers(agent):
            if not (spectra(mixer) if what == "eigenvalues" else log_decays(mixer, token)):
                default = PER_TOKEN if isinstance(mixer, LinearMixer | DiagonalMixer) else UNKNOWN
                reason = next((reason for kind, reason in REASONS if isinstance(mixer, kind)), default)
                lines[f"{type(mixer).__name__}: {reason}"] = None
    return list(lines)


@singledispatch
def spectra(mixer: Mixer) -> Spectra:
    """What `eigenvalues` gives for one layer."""
    return {}


def _of_block(block: MambaBlock) -> tuple[Tensor, Domain]:
    return -torch.exp(block.A_log), "continuous"


@spectra.register
def _(mixer: Mamba) -> Spectra:
    return {"": _of_block(mixer.block)}


@spectra.register
def _(mixer: GLoMa) -> Spectra:
    if mixer.options.share_weights and mixer.global_branch is not None:
        return {"shared": _of_block(mixer.global_branch)}
    branches = {"global": mixer.global_branch, "local": mixer.local_branch}
    return {name: _of_block(block) for name, block in branches.items() if block is not None}


@spectra.register(Mamba2)
@spectra.register(GatedDeltaNet)
def _(mixer: Mamba2 | GatedDeltaNet) -> Spectra:
    return {"": (-torch.exp(mixer.time_step.A_log), "continuous")}


@spectra.register
def _(mixer: LRU) -> Spectra:
    return {"": (mixer.decays(), "discrete")}


@spectra.register
def _(mixer: S5) -> Spectra:
    return {"": (mixer.eigenvalues(), "continuous")}


@spectra.register
def _(mixer: RetNet) -> Spectra:
    return {"": (torch.tensor(mixer.log_decays, dtype=torch.float64).exp(), "discrete")}


@spectra.register
def _(mixer: RGLRU) -> Spectra:
    return {"": (mixer.fastest(), "discrete")}


@singledispatch
def log_decays(mixer: Mixer, x: Tensor) -> dict[str, Tensor]:
    """log |decay| of the states at each token, for the mixer's inputs x: branch -> (batch, length, …)."""
    return {}


@log_decays.register
def _(mixer: Mamba, x: Tensor) -> dict[str, Tensor]:
    return {"": mixer.block.log_decays(x)}


@log_decays.register
def _(mixer: GLoMa, x: Tensor) -> dict[str, Tensor]:
    return mixer.log_decays(x)


@log_decays.register
def _(mixer: RGLRU, x: Tensor) -> dict[str, Tensor]:
    return {"": mixer.log_decays(x)}


@log_decays.register
def _(mixer: DiagonalMixer, x: Tensor) -> dict[str, Tensor]:
    a, b = mixer.enter(x)
    return {"": a.abs().log().expand(b.shape)}


@log_decays.register(MLSTM)
@log_decays.register(SLSTM)
def _(mixer: Mixer, x: Tensor) -> dict[str, Tensor]:
    return {}


@log_decays.register
def _(mixer: LinearMixer, x: Tensor) -> dict[str, Tensor]:
    """Each of them gives its decays to the recurrence, inside `run`. Listening there repeats nobody's formula."""
    heard: list[Recurrence] = []

    def recur(recurrence: Recurrence, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        heard.append(recurrence)
        return type(mixer).recur(mixer, recurrence, state)

    mixer.recur = recur  # type: ignore[method-assign]
    try:
        mixer(x)
    finally:
        del mixer.recur  # the class's own is back
    (recurrence,) = heard
    return {} if recurrence.log_decay is None else {"": recurrence.log_decay}
