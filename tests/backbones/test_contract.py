"""Every registered backbone, in every variant, keeps the contract; and the checks find planted faults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from backbench.backbones import BACKBONES, UserError
from backbench.backbones.build import build
from backbench.backbones.check import check, rules
from backbench.backbones.contract import ALL, Backbone, Mixer, Spec, map_state, select_rows
from backbench.backbones.options import make_options

SPEC = Spec(d_model=16, n_layers=2, max_length=14)
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in BACKBONES.names()),
    ("transformer", {"n_heads": 4, "activation": "gelu_tanh", "kernels": "reference"}),
    ("mamba", {"mlp": False, "d_conv": 1, "d_state": 4}),
    ("mamba", {"kernels": "reference", "dt_rank": 3, "expand": 1}),
    ("gloma", {"local": "blocks", "fusion": "gated"}),
    ("gloma", {"local": "blocks", "share_weights": True}),
    ("gloma", {"window_of": "scan", "window": 3, "fusion": "concat", "share_weights": True}),
    ("gloma", {"local_d_conv": 1, "local_d_state": 4, "mlp": False}),
]


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)
def test_contract(name: str, options: dict[str, Any]) -> None:
    results = check(name, options, SPEC)
    assert [result.name for result in results] == [title for title, _ in rules()]
    assert [f"{result.name}: {result.detail}" for result in results if not result.passed] == []


@pytest.mark.parametrize("name", BACKBONES.names())
@pytest.mark.parametrize(("tokens", "length"), [(1, 5), (3, 2)])
def test_one_token_a_step_and_short_contexts(name: str, tokens: int, length: int) -> None:
    results = check(name, None, Spec(8, n_layers=1, tokens_per_step=tokens, max_length=length))
    assert [f"{result.name}: {result.detail}" for result in results if not result.passed] == []


class Sound(Mixer):
    """A cumulative mean: one method, with the step that comes with the contract."""

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1) / torch.arange(1, x.shape[1] + 1).view(-1, 1)


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


FAULTS: list[tuple[type, str]] = [
    (Leaking, "causality"),
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
    untested = {title for title, _ in rules()} - {rule for _, rule in FAULTS}
    assert untested == {"options", "cost"}  # below


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


def test_a_leak_is_reported_with_its_size() -> None:
    assert "the future leaks at" in failed(Leaking)["causality"]


def test_window_slides_and_rows_keep_their_own_count() -> None:
    torch.manual_seed(0)
    model = build(Sound, None, Spec(d_model=4, n_layers=1, dropout=0.0, max_length=3)).eval()
    x = torch.randn(2, 8, 4)
    state = model.initial_state(2)
    for t in range(8):
        y, state = model.step(x[:, t], state)
        begin = max(0, t - 2)
        expected = [model(x[:1, begin : t + 1])[0, -1], model(x[1:, max(begin, 4 if t > 3 else 0) : t + 1])[0, -1]]
        torch.testing.assert_close(y, torch.stack(expected), atol=1e-5, rtol=1e-5)
        if t == 3:
            state = model.reset(state, torch.tensor([False, True]))


def test_states_of_any_nesting() -> None:
    state = {"a": (torch.zeros(3, 2), [torch.arange(3)]), "b": None}
    doubled = map_state(torch.add, state, state)
    assert doubled["a"][1][0].tolist() == [0, 2, 4]
    assert doubled["b"] is None
    assert select_rows(state, torch.tensor([2, 0]))["a"][1][0].tolist() == [2, 0]
    with pytest.raises(TypeError, match="int"):
        map_state(torch.add, 3)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mamba", {"d_stat": 4}, "did you mean 'd_state'"),
        ("mamba", {"d_state": "x"}, "type int"),
        ("mamba", {"d_state": True}, "type int"),
        ("mamba", {"d_state": 0}, "d_state=0"),
        ("mamba", {"activation": "gellu"}, "did you mean 'gelu'"),
        ("mamba", {"kernels": "cuda"}, "no implementation 'cuda'"),
        ("transformer", {"n_heads": 3}, "d_model=16 is not a multiple of n_heads=3"),
        ("gloma", {"window": 4}, "window=4 is not a multiple of tokens_per_step=3"),
        ("gloma", {"window": 3}, "window=3 is shorter than local_d_conv=4"),
        ("gloma", {"fusion": "summ"}, "did you mean 'sum'"),
        ("gloma", {"share_weights": True, "d_state": 8}, "share_weights needs"),
        ("identity", {"x": 1}, "unknown option 'x' of Identity"),
        ("gloma", 3, "expected a mapping"),
    ],
)
def test_mistakes_in_options_are_one_line_and_say_what_to_do(name: str, options: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build(name, options, SPEC)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("values", [{"d_model": 0}, {"d_model": 4, "dropout": 1.0}, {"d_model": 4, "n_layers": True}])
def test_mistakes_in_the_spec(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="spec: "):
        Spec(**values)


def test_build_refuses_other_classes() -> None:
    with pytest.raises(UserError, match="neither a Mixer nor a Backbone"):
        build(nn.Linear, None, SPEC)  # type: ignore[arg-type]


def test_options_of_more_than_plain_types() -> None:
    @dataclass(frozen=True)
    class Rich:
        kind: Literal["a", "b"]
        size: int | None = None
        rate: float = 1.0
        sizes: tuple[int, ...] = ()

    assert make_options(Rich, {"kind": "a", "size": None, "rate": 2, "sizes": [1]}) == Rich("a", None, 2.0, (1,))
    for values, message in (
        ({"kind": "c"}, "known: a, b"),
        ({"kind": "a", "size": "x"}, "give a value of type int"),
        ({}, "no value for kind"),
    ):
        with pytest.raises(UserError, match=message):
            make_options(Rich, values)


@pytest.mark.parametrize("name", BACKBONES.names())
def test_options_fit_a_structured_configuration(name: str) -> None:
    omegaconf = pytest.importorskip("omegaconf")
    options = BACKBONES.get(name).Options
    config = omegaconf.OmegaConf.structured(options)
    assert omegaconf.OmegaConf.to_object(config) == options()


@pytest.mark.parametrize("name", ["transformer", "mamba", "gloma"])
def test_training_in_half_precision(name: str) -> None:
    torch.manual_seed(0)
    model, x = build(name, None, SPEC), torch.randn(2, 9, 16)
    with torch.autocast("cpu", torch.bfloat16):
        y = model(x)
    y.float().square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        half = model(x)
    torch.testing.assert_close(half.float(), model(x), atol=0.1, rtol=0.1)
