"""Layers in one compiled call equal the layers' own steps, and run only where they can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from backbench.backbones.build import build
from backbench.backbones.contract import LAST, Backbone, Spec, State, map_state, select_rows
from backbench.backbones.fused import FusedLayers
from backbench.backbones.kernels import forget_ran, ran
from backbench.backbones.kernels.layers.layers import LAYERS, as_recorded
from backbench.backbones.kernels.native import loader
from backbench.backbones.mixers.mamba import Mamba

D, CONTEXT, TOLERANCE = 24, 9, 1e-5
needs_library = pytest.mark.skipif(LAYERS.table["cpp"].missing() is not None, reason="no compiled kernels here")
THREE = ("transformer", "mamba", "gloma")
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("transformer", {"n_heads": 4, "kv_heads": 2, "window": 2, "bias": False, "activation": "swiglu", "norm": "rms"}),
    ("transformer", {"n_heads": 8, "activation": "gelu_tanh"}),
    ("mamba", {"d_state": 5, "d_conv": 2, "expand": 1, "activation": "relu"}),
    ("mamba", {"eigenvalues": "negative", "mlp": False, "d_conv": 1}),
    ("gloma", {"window": 1}),
    ("gloma", {"window": 4, "fusion": "concat"}),
    ("gloma", {"windows": (1, 3), "window_of": "scan"}),
    ("gloma", {"branches": "local", "local_d_conv": 1}),
    ("gloma", {"branches": "global", "local": "blocks"}),
    ("gloma", {"share_weights": True}),
    ("mamba+transformer", {}),
]


@pytest.fixture(autouse=True)
def _acting() -> Iterator[None]:
    forget_ran()
    with torch.inference_mode():
        yield


def made(name: str | type[Mamba], options: dict[str, Any] | None = None, d: int = D, layers: int = 2) -> Backbone:
    torch.manual_seed(3)
    with torch.inference_mode(False):
        stack = build(name, options or {}, Spec(d, layers, 0.1, max_length=CONTEXT)).eval()
        for p in stack.parameters():
            p.data.add_(0.1 * torch.randn_like(p))  # biases that are not zero, decays that differ
    return stack


def leaves(state: State) -> list[Tensor]:
    found: list[Tensor] = []
    map_state(found.append, state)
    return found


def episode(
    stack: Backbone, batch: int, between: Callable[[int, State], State] = lambda _, state: state, steps: int = 6
) -> float:
    """The largest difference in outputs and states to the stack's own `extend`, past the longest context."""
    fused, states = FusedLayers(stack), [stack.initial_state(batch), stack.initial_state(batch)]
    error = 0.0
    for step in range(steps):
        states = [between(step, state) for state in states]
        x = torch.randn(len(leaves(states[0])[0]), 2 if step == 0 else 3, stack.spec.d_model)
        wanted, states[0] = stack.extend(x, states[0], LAST)
        got, states[1] = fused.extend(x, states[1])
        pairs = zip([wanted, *leaves(states[0])], [got, *leaves(states[1])], strict=True)
        error = max(error, *(float((a.double() - b.double()).nan_to_num(0).abs().max()) for a, b in pairs if a.numel()))
    return error


@needs_library
@pytest.mark.parametrize("batch", [1, 3, 10, 64])
@pytest.mark.parametrize("name", THREE)
def test_layers_at_once_equal_the_steps_of_each(name: str, batch: int) -> None:
    assert episode(made(name), batch) <= TOLERANCE
    assert ran()["layers"] == "cpp"


@needs_library
@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
def test_layers_at_once_equal_the_steps_whatever_the_options(name: str, options: dict[str, Any]) -> None:
    assert episode(made(name, options), 3) <= TOLERANCE
    assert ran()["layers"] == "cpp"


@needs_library
@pytest.mark.parametrize(("name", "options"), [("mamba", {}), ("gloma", {}), *OPTIONS[2:-1]], ids=str)
@pytest.mark.parametrize("layers", [1, 2])
def test_windows_at_once_equal_the_layers(name: str, options: dict[str, Any], layers: int) -> None:
    if "windows" in options:
        options = options | {"windows": options["windows"][:layers]}
    stack = made(name, options, layers=layers)
    fused = FusedLayers(stack)
    for length in (1, 2, CONTEXT - 1, 2 * CONTEXT):
        whole = stack.project(torch.randn(3, length + 2, D))
        projected = map_state(lambda leaf, n=length: leaf[:, -n:], whole)  # as acting slices it
        torch.testing.assert_close(fused.mix(projected), stack.mix(projected, LAST), rtol=0, atol=TOLERANCE)
    assert ran()["layers"] == "cpp"


@needs_library
@pytest.mark.parametrize("name", THREE)
def test_a_row_has_the_same_bits_in_any_batch(name: str) -> None:
    stack, x = made(name), torch.randn(10, 3, D)
    together, _ = FusedLayers(stack).extend(x, stack.initial_state(10))
    for row in (0, 9):
        alone, _ = FusedLayers(stack).extend(x[row : row + 1], stack.initial_state(1))
        assert torch.equal(alone[0], together[row])


@needs_library
@pytest.mark.parametrize("name", THREE)
def test_rows_end_and_start_again_in_the_middle_of_an_episode(name: str) -> None:
    stack = made(name)

    def between(step: int, state: State) -> State:
        if step == 2:
            return stack.reset(state, torch.tensor([False, True, False, True]))
        return select_rows(state, torch.tensor([3, 0])) if step == 4 else state

    assert episode(stack, 4, between) <= TOLERANCE
    assert ran()["layers"] == "cpp"


@needs_library
@pytest.mark.parametrize("name", THREE)
@pytest.mark.parametrize("change", ["in place", "load_state_dict", "replaced", "data"])
def test_new_weights_are_used_at_the_next_call(name: str, change: str) -> None:
    stack, other = made(name), made(name)
    fused, state = FusedLayers(stack), stack.initial_state(2)
    fused.extend(torch.randn(2, 3, D), state)
    with torch.inference_mode(False), torch.no_grad():
        for p in other.parameters():
            p.mul_(1.5)
        if change == "load_state_dict":
            stack.load_state_dict(other.state_dict())
        elif change == "replaced":
            stack.load_state_dict(other.state_dict(), assign=True)
        else:
            for p in stack.parameters():
                p.mul_(1.5) if change == "in place" else p.data.mul_(1.5)
    x = torch.randn(2, 3, D)
    wanted, _ = other.extend(x, map_state(torch.clone, state), LAST)
    torch.testing.assert_close(fused.extend(x, state)[0], wanted, rtol=0, atol=TOLERANCE)


@needs_library
@pytest.mark.parametrize("name", THREE)
def test_every_instruction_set_gives_the_same_values(name: str) -> None:
    sets, stack = loader.instruction_sets(), made(name, d=40)
    try:
        for one in sets:
            loader.use(one)
            for batch in (1, 5, 7):
                assert episode(stack, batch) <= TOLERANCE, one
    finally:
        loader.use(sets[-1])


class Own(Mamba):
    """A subclass may do anything."""


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gloma", {"fusion": "gated"}), ("gloma", {"local": "blocks"}), ("gloma", {"kernels": "reference"}),
        ("mamba", {"kernels": "reference"}), ("transformer", {"kernels": "sdpa"}), ("transformerpp", {}),
        ("gru", {}), (Own, {}), ("mamba+gru", {}),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_known_runs_layer_by_layer(name: str | type[Mamba], options: dict[str, Any]) -> None:
    stack = made(name, options)
    assert episode(stack, 2, steps=2) == 0
    assert FusedLayers(stack).mix(stack.project(torch.randn(2, 4, D))).shape == (2, 1, D)
    assert "layers" not in ran()


def _hook(stack: Backbone) -> None:
    stack.get_submodule("layers.0.mixer.block").register_forward_pre_hook(lambda *_: None)


def _patch(stack: Backbone) -> None:
    part = stack.get_submodule("layers.0.ffn")
    part.forward = part.forward  # type: ignore[method-assign]  # what a profiler does


@pytest.mark.parametrize("change", [_hook, _patch, lambda stack: stack.double(), lambda stack: stack.layers[1].train()])
def test_a_changed_stack_runs_layer_by_layer(change: Callable[[Any], object]) -> None:
    stack = made("mamba")
    fused = FusedLayers(stack)
    change(stack)
    dtype = next(stack.parameters()).dtype
    y, _ = fused.extend(torch.randn(2, 3, D, dtype=dtype), stack.initial_state(2))
    assert y.dtype == dtype
    assert "layers" not in ran()


def test_gradients_and_autocast_run_layer_by_layer() -> None:
    stack = made("mamba")
    with torch.inference_mode(False):
        y, _ = FusedLayers(stack).extend(torch.randn(2, 3, D), stack.initial_state(2))
        assert y.requires_grad
    with torch.autocast("cpu", torch.bfloat16):
        FusedLayers(stack).extend(torch.randn(2, 3, D), stack.initial_state(2))
    assert "layers" not in ran()


def test_more_tokens_than_a_step_has_run_layer_by_layer() -> None:
    stack = made("transformer")
    FusedLayers(stack).extend(torch.randn(2, 5, D), stack.initial_state(2))
    assert "layers" not in ran()


def test_a_state_of_another_batch_is_refused_by_the_layers_and_never_read() -> None:
    stack = made("mamba")
    with pytest.raises((ValueError, RuntimeError)):
        FusedLayers(stack).extend(torch.randn(4, 3, D), stack.initial_state(2))


def test_a_record_without_layers_is_reproduced_layer_by_layer() -> None:
    stack = made("mamba")
    with as_recorded({"selective_scan": "cpp"}):
        assert episode(stack, 2, steps=1) == 0
    assert "layers" not in ran()


def test_layers_run_one_by_one_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "_load", lambda: (None, "no compiler"))
    monkeypatch.setattr(LAYERS, "_found", {})
    assert LAYERS.table["cpp"].missing() == "no compiler"
    assert LAYERS.chosen().name == "reference"
    assert episode(made("transformer"), 2, steps=2) == 0


def test_an_older_library_has_no_layers_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "_load", lambda: (object(), ""))
    assert "older" in str(LAYERS.table["cpp"].missing())
