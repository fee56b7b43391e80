"""The contract of a backbone, checked: each rule by a measurement, each result with its numbers."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from backbench.backbones.build import build
from backbench.backbones.contract import ALL, LAST, Backbone, Causal, Spec, map_state, select_rows
from backbench.backbones.options import make_options

# Largest allowed difference between two ways of computing one output (outputs are normalised, so of order 1); float32.
TOLERANCE = 1e-5
BATCH = 3


@dataclass(frozen=True)
class CheckResult:
    """One rule of the contract: whether it holds, and what was measured."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class _Subject:
    """What is checked: ``make`` builds a fresh one, with the same weights each time, in evaluation mode."""

    make: Callable[[], Backbone]
    spec: Spec
    length: int

    def inputs(self, seed: int = 1, batch: int = BATCH) -> Tensor:
        """(batch, length, d_model), the same numbers each time."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(batch, self.length, self.spec.d_model, generator=generator)


def check(
    name: str | type[Causal], options: Mapping[str, Any] | object | None = None, spec: Spec | None = None
) -> list[CheckResult]:
    """Run every check of the contract on a backbone, on CPU in float32, within seconds.

    Args:
        name: a registered name, ``package.module:Class``, or the class itself.
        options: the options to change.
        spec: default: width 32, two layers, dropout 0.1, contexts of up to 21 tokens.

    Returns:
        One result for each rule, in a fixed order. A check that raises has failed, with the error as its detail.

    Raises:
        UserError: the backbone cannot be built at all.
    """
    spec = spec or Spec(d_model=32, n_layers=2, max_length=21)

    def make() -> Backbone:
        torch.manual_seed(0)
        return build(name, options, spec).eval()

    results = []
    with torch.random.fork_rng(devices=[]):
        make()  # a mistake of the user's is raised, not reported as a fault of the backbone
        subject = _Subject(make, spec, min(spec.max_length, 24))
        for title, rule in _RULES.items():
            try:
                passed, detail = rule(subject)
            except Exception as error:  # whatever a backbone raises is what its author wants to read
                passed, detail = False, f"raised {type(error).__name__}: {error}"
            results.append(CheckResult(title, passed, detail))
    return results


def _error(a: Tensor, b: Tensor) -> float:
    """The largest difference; NaN if either has one, which is within no tolerance."""
    return float((a - b).abs().max())


def _within(error: float, what: str) -> tuple[bool, str]:
    return error <= TOLERANCE, f"{what}: largest error {error:.1e}, allowed {TOLERANCE:.0e}"


@torch.no_grad()
def _shape(subject: _Subject) -> tuple[bool, str]:
    """Any length from 1 to the longest context gives an output of the input's shape, of the mixers too."""
    model, x = subject.make(), subject.inputs()
    wrong = set()

    def compare(module: torch.nn.Module, args: tuple[Tensor], y: Tensor) -> None:
        if y.shape != args[0].shape:  # in the stack, a sum could hide it by broadcasting
            wrong.add(f"{type(module).__name__} {tuple(args[0].shape)} -> {tuple(y.shape)}")

    for module in model.modules():
        if isinstance(module, Causal):
            module.register_forward_hook(compare)
    for n in range(1, subject.length + 1):
        model(x[:, :n])
    return not wrong, f"lengths 1 to {subject.length}" + (f"; wrong: {'; '.join(sorted(wrong))}" if wrong else "")


@torch.no_grad()
def _finite(subject: _Subject) -> tuple[bool, str]:
    """Ordinary, large and zero inputs give finite outputs."""
    model, x = subject.make(), subject.inputs()
    bad = [scale for scale in (0.0, 1.0, 100.0) if not model(scale * x).isfinite().all()]
    return not bad, "inputs of scale 0, 1 and 100" + (f"; not finite at {bad}" if bad else "")


@torch.no_grad()
def _causality(subject: _Subject) -> tuple[bool, str]:
    """Changing tokens t.. changes no output before t, exactly, whatever t."""
    model, x, other = subject.make(), subject.inputs(), subject.inputs(seed=2)
    y, leaks = model(x), {}
    for t in range(1, subject.length):
        error = _error(model(torch.cat((x[:, :t], other[:, t:]), 1))[:, :t], y[:, :t])
        if error != 0:
            leaks[t] = error
    worst = f"; the future is seen at {list(leaks)[:8]}, by up to {max(leaks.values()):.1e}" if leaks else ""
    return not leaks, f"{subject.length - 1} places changed, exact{worst}"


def _steps(model: Backbone, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
    """`step` over (batch, length, d_model), from the initial state unless one is given."""
    state = model.initial_state(len(x)) if state is None else state
    columns = []
    for x_t in x.unbind(1):
        y_t, state = model.step(x_t, state)
        columns.append(y_t)
    return torch.stack(columns, 1), state


@torch.no_grad()
def _stepwise(subject: _Subject) -> tuple[bool, str]:
    """`step` gives the columns of `forward`."""
    model, x = subject.make(), subject.inputs()
    return _within(_error(_steps(model, x)[0], model(x)), f"{subject.length} tokens")


@torch.no_grad()
def _extend(subject: _Subject) -> tuple[bool, str]:
    """Tokens that come in pieces give what they give one by one."""
    model, x = subject.make(), subject.inputs()
    per_step, errors = subject.spec.tokens_per_step, []
    whole, _ = _steps(model, x)
    for size in sorted({2, per_step, per_step + 1}):
        state, start = model.initial_state(len(x)), 0
        for piece in torch.split(x, size, dim=1):
            y, state = model.extend(piece, state)
            errors.append(_error(y, whole[:, start : start + piece.shape[1]]))
            start += piece.shape[1]
    y, _ = model.extend(x[:, :per_step], model.initial_state(len(x)), LAST)
    errors.append(_error(y[:, 0], whole[:, min(per_step, subject.length) - 1]))
    return _within(max(errors), f"{subject.length} tokens in pieces of 2, {per_step} and {per_step + 1}")


@torch.no_grad()
def _positions(subject: _Subject) -> tuple[bool, str]:
    """What is computed for some positions only is what `forward` gives there."""
    model, x = subject.make(), subject.inputs()
    y, errors = model(x), []
    for keep in (ALL, LAST, slice(1, None, 3)):
        if y[:, keep].numel():
            errors.append(_error(model.forward_at(x, keep), y[:, keep]))
    for n in range(1, subject.length + 1):
        errors.append(_error(model.last(model.prepare(x[:, :n])), y[:, n - 1]))
    return _within(max(errors), f"every third, the last of 1 to {subject.length}")


@torch.no_grad()
def _padding(subject: _Subject) -> tuple[bool, str]:
    """Tokens appended on the right leave the outputs as they were."""
    model, x = subject.make(), subject.inputs()
    lengths = range(1, subject.length)
    padded = [torch.nn.functional.pad(x[:, :n], (0, 0, 0, subject.length - n)) for n in lengths]
    error = max((_error(model(p)[:, :n], model(x[:, :n])) for n, p in zip(lengths, padded, strict=True)), default=0.0)
    return _within(error, f"lengths 1 to {subject.length - 1} padded to {subject.length}")


@torch.no_grad()
def _reset(subject: _Subject) -> tuple[bool, str]:
    """Rows that were reset start afresh, the others go on; the state is batch first."""
    model, x = subject.make(), subject.inputs()
    cut = subject.length // 2
    if cut == 0:
        return True, "contexts of one token: nothing to reset"
    _, state = _steps(model, x[:, :cut])
    mixed, _ = _steps(model, x[:, cut:], model.reset(state, torch.tensor([True, False, True])))
    went_on, _ = _steps(model, x[1:2], None)
    fresh, _ = _steps(model, x[:, cut:])
    error = max(_error(mixed[::2], fresh[::2]), _error(mixed[1:2], went_on[:, cut:]))
    sizes: list[int] = []
    map_state(lambda leaf: sizes.append(len(leaf)), state)
    if set(sizes) - {BATCH}:
        return False, f"the state is not batch first: its tensors have {sorted(set(sizes))} rows for a batch of {BATCH}"
    chosen, _ = _steps(model, x[1:2, cut:], select_rows(state, torch.tensor([1])))
    error = max(error, _error(chosen, went_on[:, cut:]))
    return _within(error, f"rows 0 and 2 reset after {cut} tokens")


@torch.no_grad()
def _batch_independence(subject: _Subject) -> tuple[bool, str]:
    """A row's output does not depend on the other rows."""
    model, x = subject.make(), subject.inputs()
    other = torch.cat((x[:1], 5 * subject.inputs(seed=2)[1:]))
    error = max(_error(model(other)[:1], model(x)[:1]), _error(model(x[:1]), model(x)[:1]))
    return _within(error, "a row with other rows, and alone")


def _trained(subject: _Subject, steps: int) -> tuple[Backbone, list[float]]:
    """``steps`` updates towards the mean of the last two inputs, without dropout; the loss before each, and after."""
    model, x = subject.make(), subject.inputs()
    target = (x + torch.nn.functional.pad(x, (0, 0, 1, -1))) / 2 if subject.length > 1 else x / 2
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for update in range(steps + 1):
        loss = torch.nn.functional.mse_loss(model(x), target)
        losses.append(float(loss.detach()))
        if update < steps:
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
    return model, losses


def _learning(subject: _Subject) -> tuple[bool, str]:
    """A few optimiser steps lower the loss of a small regression."""
    if not list(subject.make().parameters()):
        return True, "no parameters"
    _, losses = _trained(subject, 5)
    return losses[-1] < losses[0], f"loss {losses[0]:.4f} -> {losses[-1]:.4f} in {len(losses) - 1} updates"


def _gradients(subject: _Subject) -> tuple[bool, str]:
    """Every parameter gets a gradient that is finite and not zero."""
    model, x = subject.make(), subject.inputs()
    torch.autograd.backward((model(x) * subject.inputs(seed=3)).sum())
    bad = []
    for name, parameter in model.named_parameters():
        grad = parameter.grad
        if grad is None or not bool(grad.isfinite().all()) or not bool(grad.any()):
            bad.append(name)
    total = sum(1 for _ in model.parameters())
    return not bad, f"{total - len(bad)} of {total} parameters" + (f"; not {', '.join(bad[:4])}" if bad else "")


def _determinism(subject: _Subject) -> tuple[bool, str]:
    """Two equal seeds give equal bits, dropout and updates included."""
    runs = []
    for _ in range(2):
        model, losses = _trained(subject, 2)
        torch.manual_seed(7)
        runs.append((losses, model.train()(subject.inputs()).detach(), [p.detach() for p in model.parameters()]))
    (losses, y, weights), (losses2, y2, weights2) = runs
    same_weights = all(torch.equal(a, b) for a, b in zip(weights, weights2, strict=True))
    passed = losses == losses2 and torch.equal(y, y2) and same_weights
    return passed, f"two runs of 2 updates and one pass with dropout: outputs differ by {_error(y, y2):.1e}"


@torch.no_grad()
def _save_and_load(subject: _Subject) -> tuple[bool, str]:
    """A state dict that went through a file gives the same bits, in a model that was initialised otherwise."""
    model, x, file = subject.make(), subject.inputs(), io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    other = subject.make()
    for parameter in other.parameters():
        parameter.add_(1.0)
    other.load_state_dict(loaded)
    shared = len(loaded) - len({tensor.data_ptr() for tensor in loaded.values() if tensor.numel()})
    detail = f"{len(loaded)} tensors, {file.tell()} bytes, difference {_error(other(x), model(x)):.1e}"
    if shared > 0:
        return False, f"{detail}; {shared} share memory with another, which safetensors refuses"
    return torch.equal(other(x), model(x)), detail


def _options(subject: _Subject) -> tuple[bool, str]:
    """Options survive the way to a mapping and back, and are frozen."""
    options = subject.make().options
    if not dataclasses.is_dataclass(options) or isinstance(options, type):
        return False, f"options are a {type(options).__name__}; make them a frozen dataclass"
    values = dataclasses.asdict(options)
    again = make_options(type(options), values)
    frozen = type(options).__dataclass_params__.frozen  # type: ignore[attr-defined]
    return again == options and frozen, f"{len(values)} options" + ("" if frozen else "; the dataclass is not frozen")


def _cost(subject: _Subject) -> tuple[bool, str]:
    """FLOPs a token are counted, and do not shrink with the context."""
    model = subject.make()
    counts = [model.flops_per_token(length) for length in (1, subject.length)]
    return 0 <= counts[0] <= counts[
        1
    ], f"{counts[0]:,.0f} FLOPs a token at length 1, {counts[1]:,.0f} at {subject.length}"


_RULES: dict[str, Callable[[_Subject], tuple[bool, str]]] = {
    "shape at any length": _shape,
    "finite outputs": _finite,
    "causality": _causality,
    "parallel equals step by step": _stepwise,
    "pieces equal single steps": _extend,
    "chosen positions": _positions,
    "padded equals unpadded": _padding,
    "reset": _reset,
    "batch independence": _batch_independence,
    "gradients reach every parameter": _gradients,
    "learning": _learning,
    "equal seeds, equal bits": _determinism,
    "save and load": _save_and_load,
    "options": _options,
    "cost": _cost,
}


def rules() -> Iterator[tuple[str, str]]:
    """The name of each check and what it asks for."""
    for title, rule in _RULES.items():
        yield title, rule.__doc__ or ""
