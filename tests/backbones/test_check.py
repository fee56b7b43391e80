"""Every registered backbone keeps the contract in every variant, and the rules find planted faults."""

from __future__ import annotations

from typing import Any

import mixers
import pytest
import torch
from torch import Tensor, nn

from backbench.backbones import BACKBONES
from backbench.backbones.check import RULES, check
from backbench.backbones.contract import ALL, Backbone, Causal, Mixer, Spec

SPEC = Spec(d_model=16, n_layers=2, max_length=14)
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in BACKBONES.names()),
    ("transformer", {"n_heads": 4, "activation": "gelu_tanh", "kernels": "reference"}),
    ("mamba", {"mlp": False, "d_conv": 1, "d_state": 4}),
    ("mamba", {"kernels": "reference", "dt_rank": 3, "expand": 1}),
    ("mamba", {"eigenvalues": "negative"}),
    ("gloma", {"local": "blocks", "fusion": "gated"}),
    ("gloma", {"local": "blocks", "share_weights": True}),
    ("gloma", {"window_of": "scan", "window": 1, "fusion": "concat", "share_weights": True}),
    ("gloma", {"local_d_conv": 1, "local_d_state": 4, "mlp": False}),
    ("gloma", {"branches": "global"}),
    ("gloma", {"branches": "local"}),
    ("gloma", {"branches": "local", "local": "blocks"}),
    ("rglru", {"width": 24, "n_blocks": 4, "d_conv": 1, "mlp": False}),
    ("lru", {"d_state": 5, "r_min": 0.9, "max_phase": 0.3, "mlp": False}),
    ("mingru", {"expand": 2, "candidate": "linear", "kernels": "reference"}),
    ("s5", {"d_state": 12, "n_blocks": 2, "kernels": "torch", "mlp": False}),
]


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)
def test_every_backbone_and_variant_keeps_the_contract(name: str, options: dict[str, Any]) -> None:
    results = check(name, options, SPEC)
    assert [result.name for result in results] == list(RULES)
    assert [f"{result.name}: {result.detail}" for result in results if not result.passed] == []


@pytest.mark.parametrize("name", BACKBONES.names())
@pytest.mark.parametrize(("tokens", "length"), [(("state",), 5), (("return", "state", "action"), 3)])
def test_contract_holds_for_one_token_per_step_and_short_contexts(
    name: str, tokens: tuple[str, ...], length: int
) -> None:
    results = check(name, None, Spec(8, n_layers=1, tokens=tokens, max_length=length))
    assert [f"{result.name}: {result.detail}" for result in results if not result.passed] == []


class Sound(Mixer):
    """A cumulative mean: one method, with the step that comes with the contract."""

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1) / torch.arange(1, x.shape[1] + 1).view(-1, 1)


class Normalised(Mixer):
    """Takes statistics over rows and tokens, but in training only."""

    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        self.statistics = nn.BatchNorm1d(spec.d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.statistics(x.mT).mT  # type: ignore[no-any-return]


class Leaking(Mixer):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1e-3 * x.mean(1, keepdim=True)


class WrongStep(Sound):
    def step(self, x_t: Tensor, state: Any) -> tuple[Tensor, Any]:
        y_t, state = super().step(x_t, state)
        return y_t + 1e-2 * x_t, state


class WrongPieces(Sound):
    """Forgets what came before a piece."""

    def extend(self, x: Tensor, state: Any, keep: slice = ALL) -> tuple[Tensor, Any]:
        return self(x)[:, keep], state


class WrongPositions(Sound):
    def forward_at(self, x: Tensor, keep: slice) -> Tensor:
        return self(x[:, keep])


class WrongProjection(Sound):
    """`project` is half of `forward`, and `mix` all of it."""

    def project(self, x: Tensor) -> Tensor:
        return 2 * x


class Random(Mixer):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        Random.calls += 1
        return x * (1 + 1e-3 * Random.calls)


class WrongReset(Sound):
    def reset(self, state: Any, done: Tensor) -> Any:
        return state


class ResetsAll(Sound):
    def reset(self, state: Any, done: Tensor) -> Any:
        return super().reset(state, torch.ones_like(done))


class MixesRows(Mixer):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * x.mean(0, keepdim=True)


class Unused(Sound):
    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        self.unused = nn.Linear(2, 2)


class Shared(Sound):
    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        self.one = nn.Parameter(torch.zeros(3))
        self.two = nn.Parameter(self.one.data)


class Forgetful(Sound):
    """Keeps a weight outside its state dict."""

    made = 0

    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        Forgetful.made += 1
        self.scale = 1.0 + Forgetful.made

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * super().forward(x)


class NeedsThree(Sound):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.shape[1] != 2 else super().forward(x)[:, :1]


class Explodes(Mixer):
    def forward(self, x: Tensor) -> Tensor:
        return x / x.std(-1, keepdim=True)


class Stuck(Backbone):
    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + 0 * self.scale)


class TurnsKindsAround(mixers.Typed):
    """Drops one token at a time, so that the window begins with another kind of token each time."""

    def step(self, x_t: Tensor, state: Any) -> tuple[Tensor, Any]:
        window, count = state
        if int(count.max()) == window.shape[1]:
            window, count = window.roll(-1, dims=1), count - 1
        return super().step(x_t, (window, count))


class ProjectsByPosition(Sound):
    """What it projects from a token depends on where the token stands among those that came with it."""

    def project(self, x: Tensor) -> Tensor:
        return x * torch.arange(1, x.shape[1] + 1).view(-1, 1)

    def mix(self, projected: Tensor, keep: slice = ALL) -> Tensor:
        return self(projected / torch.arange(1, projected.shape[1] + 1).view(-1, 1))[:, keep]


class Overwrites(Sound):
    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        self.time_step = nn.Parameter(torch.full((spec.d_model,), 0.01))
        self.time_step._no_reinit = True  # type: ignore[attr-defined]

    def forward(self, x: Tensor) -> Tensor:
        return self.time_step * super().forward(x)

    def initialise(self, residual_scale: float) -> None:
        nn.init.normal_(self.time_step)


class Free(mixers.GRU):
    """Says that it costs nothing."""

    def flops(self, length: int) -> float:
        return 0.0


class ForgetsTheScores(mixers.FusedAttention):
    def flops(self, length: int) -> float:
        return 8.0 * self.spec.d_model**2


class Experts(Mixer):
    """A token meets one of three matrices."""

    uses_all_weights = False

    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        self.experts = nn.Parameter(torch.randn(3, spec.d_model, spec.d_model))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bld,lde->ble", x, self.experts.repeat(-(-x.shape[1] // 3), 1, 1)[: x.shape[1]])

    def flops(self, length: int) -> float:
        return 2.0 * self.spec.d_model**2


class LooksAheadFromTheThirtiethToken(Mixer):
    """Causal at the lengths of the other rules."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cumsum(x, 1)
        return y + x.mean(1, keepdim=True) if x.shape[1] > 30 else y


class MixesRowsOfLargeBatches(Mixer):
    def forward(self, x: Tensor) -> Tensor:
        y = torch.cumsum(x, 1)
        return y + x.mean(0, keepdim=True) if len(x) > 8 else y


class Leaves(Mixer):
    def forward(self, x: Tensor) -> Tensor:
        raise SystemExit(0)


FAULTS: list[tuple[type, str]] = [
    (LooksAheadFromTheThirtiethToken, "the lengths of presets"),
    (MixesRowsOfLargeBatches, "the lengths of presets"),
    (TurnsKindsAround, "recurrent acting past the context"),
    (ProjectsByPosition, "window acting past the context"),
    (Overwrites, "initialisation"),
    (Free, "cost"),
    (ForgetsTheScores, "cost"),
    (Leaking, "causality"),
    (Normalised, "causality"),
    (Normalised, "batch independence"),
    (Leaking, "parallel equals step by step"),
    (Leaking, "padded equals unpadded"),
    (WrongStep, "parallel equals step by step"),
    (WrongPieces, "pieces equal single steps"),
    (WrongPositions, "chosen positions"),
    (WrongProjection, "chosen positions"),
    (Random, "equal seeds, equal bits"),
    (WrongReset, "reset"),
    (ResetsAll, "reset"),
    (MixesRows, "batch independence"),
    (Unused, "gradients reach every parameter"),
    (Shared, "save and load"),
    (Forgetful, "save and load"),
    (NeedsThree, "shape at any length"),
    (Explodes, "finite outputs"),
    (Stuck, "learning"),
]


def failed(cls: type) -> dict[str, str]:
    return {result.name: result.detail for result in check(cls, None, SPEC) if not result.passed}


def test_a_sound_mixer_passes() -> None:
    assert failed(Sound) == {}


@pytest.mark.parametrize(("cls", "rule"), FAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_planted_faults_are_found(cls: type, rule: str) -> None:
    assert rule in failed(cls)


def test_every_rule_has_a_planted_fault() -> None:
    untested = set(RULES) - {rule for _, rule in FAULTS}
    assert untested == {"options"}  # below


def test_faults_of_options_and_cost_are_found() -> None:
    class Negative(Sound):
        def flops(self, length: int) -> float:
            return -1e9

    class Whole(Backbone):
        def __init__(self, options: Any, spec: Spec) -> None:
            super().__init__({"a": 1}, spec)
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale

    assert "cost" in failed(Negative)
    assert set(failed(Whole)) == {"options"}


def test_a_mixer_that_tells_kinds_of_tokens_apart_keeps_the_contract() -> None:
    assert failed(mixers.Typed) == {}


def test_a_step_that_turns_kinds_around_is_wrong_only_past_the_context() -> None:
    assert set(failed(TurnsKindsAround)) == {"recurrent acting past the context"}


class Layered(Backbone):
    """A complete stack with windows in each layer."""

    def __init__(self, options: Any, spec: Spec) -> None:
        super().__init__(options, spec)
        self.parts = nn.ModuleList(mixers.Convolution(options, spec) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x).tanh()
        return x

    def initial_state(self, batch: int, device: Any = None, dtype: Any = None) -> Any:
        return tuple(part.initial_state(batch, device, dtype) for part in self._parts())

    def step(self, x_t: Tensor, state: Any) -> tuple[Tensor, Any]:
        after = []
        for part, before in zip(self._parts(), state, strict=True):
            x_t, changed = part.step(x_t, before)
            x_t = x_t.tanh()
            after.append(changed)
        return x_t, tuple(after)

    def reset(self, state: Any, done: Tensor) -> Any:
        return tuple(part.reset(of, done) for part, of in zip(self._parts(), state, strict=True))

    def _parts(self) -> list[Causal]:
        return list(self.parts)  # type: ignore[arg-type]


def test_a_complete_stack_may_have_a_memory_of_its_own() -> None:
    assert failed(Layered) == {}


@pytest.mark.parametrize("mixer", [mixers.GRU, mixers.Convolution, mixers.BareMatrix, mixers.FusedAttention, Experts])
def test_blocks_of_other_packages_keep_the_contract(mixer: type) -> None:
    assert failed(mixer) == {}


def detail(mixer: type, rule: str) -> str:
    return next(result.detail for result in check(mixer, None, SPEC) if result.name == rule)


def test_the_check_says_what_the_stack_sets_and_what_a_cost_rests_on() -> None:
    assert detail(mixers.GRU, "initialisation") == "the stack sets nothing; 4 parameters stay"
    assert "time_step must stay" in detail(Overwrites, "initialisation")
    assert detail(mixers.FusedAttention, "cost").startswith("unknown: forward ran")
    assert "estimated, one product each: layers.0.mixer.matrix" in detail(mixers.BareMatrix, "cost")
    assert "its weights alone make" in detail(Free, "cost") or "forward ran" in detail(Free, "cost")


def test_a_leak_is_reported_with_its_size() -> None:
    assert "the future leaks at" in failed(Leaking)["causality"]


def test_a_mixer_that_ends_the_process_has_failed() -> None:
    (first, *_) = check(Leaves)
    assert not first.passed
    assert "SystemExit" in first.detail
