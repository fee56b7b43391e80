"""Check the contract of a backbone: run every rule and report what it measured."""

import dataclasses
import io
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from backbench.backbones import flops
from backbench.backbones.build import build
from backbench.backbones.contract import (
    ALL,
    LAST,
    Backbone,
    Causal,
    Spec,
    count_layers,
    estimated_flops,
    map_state,
    select_rows,
)
from backbench.backbones.fast import FastCausal
from backbench.backbones.options import make_options
from backbench.backbones.stack import ResidualStack

# Largest allowed difference between two ways to compute one output, float32. Outputs are normalised, so of order 1.
TOLERANCE = 1e-5
BATCH = 3
LARGEST = (64, 90)  # rows and tokens of a training batch of any preset


@dataclass(frozen=True)
class CheckResult:
    """One rule of the contract, whether the backbone keeps it, and what was measured."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Candidate:
    """The backbone to check. ``make`` builds a new one in evaluation mode, with the same weights each time.

    ``make(spec)`` builds it for another spec.
    """

    make: Callable[..., Backbone]
    spec: Spec
    length: int

    def inputs(self, seed: int = 1, length: int | None = None) -> Tensor:
        """(batch, length, d_model), the same numbers each time."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(BATCH, length or self.length, self.spec.d_model, generator=generator)

    def episode(self) -> tuple[Tensor, list[int]]:
        """Tokens of an episode that is four steps longer than the longest context, and how many arrive at a time.

        At a decision the last token of its step, the action, is not known yet.
        """
        size = self.spec.tokens_per_step
        pieces = [max(1, size - 1), *[size] * (self.spec.max_length // size + 4)]
        return self.inputs(seed=4, length=sum(pieces)), pieces


Outcome: TypeAlias = tuple[bool, str]
Rule: TypeAlias = Callable[[Candidate, Backbone, Tensor], Outcome]
RULES: dict[str, Rule] = {}


def rule(title: str, gradients: bool = False) -> Callable[[Rule], Rule]:
    """Decorator: add a rule under its title. It gets a new model and inputs, without autograd unless ``gradients``."""

    def add(function: Rule) -> Rule:
        RULES[title] = function if gradients else torch.no_grad()(function)
        return function

    return add


def error_of(a: Tensor, b: Tensor) -> float:
    """The largest difference. NaN in either tensor gives NaN, which is within no tolerance."""
    return float((a - b).abs().max())


def within(error: float, what: str) -> Outcome:
    return error <= TOLERANCE, f"{what}: largest error {error:.1e}, allowed {TOLERANCE:.0e}"


def steps(model: Causal, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
    """`step` over (batch, length, d_model), from ``state`` or the initial state: outputs, the state afterwards."""
    return FastCausal.extend(model, x, model.initial_state(len(x)) if state is None else state)


def train(candidate: Candidate, updates: int) -> tuple[Backbone, list[float]]:
    """Train without dropout to predict the mean of the last two inputs: the model, its losses before and after."""
    model, x = candidate.make(), candidate.inputs()
    target = (x + F.pad(x, (0, 0, 1, -1))) / 2 if candidate.length > 1 else x / 2
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for update in range(updates + 1):
        loss = F.mse_loss(model(x), target)
        losses.append(float(loss.detach()))
        if update < updates:
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
    return model, losses


@rule("shape at any length")
def shape(candidate: Candidate, model: Backbone, x: Tensor) -> Outcome:
    """Inputs of any length from 1 to the longest context give outputs of the same shape, also from each mixer."""
    wrong = set()

    def compare(module: torch.nn.Module, args: tuple[Tensor], y: Tensor) -> None:
        if y.shape != args[0].shape:  # broadcasting in the stack's sum could hide it
            wrong.add(f"{type(module).__name__} {tuple(args[0].shape)} -> {tuple(y.shape)}")

    for module in model.modules():
        if isinstance(module, Causal):
            module.register_forward_hook(compare)
    for n in range(1, candidate.length + 1):
        model(x[:, :n])
    return not wrong, f"lengths 1 to {candidate.length}" + (f"; wrong: {'; '.join(sorted(wrong))}" if wrong else "")


@rule("finite outputs")
def finite(candidate: Candidate, model: Backbone, x: Tensor) -> Outcome:
    """Ordinary, large and zero inputs give finite outputs."""
    bad = [scale for scale in (0.0, 1.0, 100.0) if not model(scale * x).isfinite().all()]
    return not bad, "inputs of scale 0, 1 and 100" + (f"; not finite at {bad}" if bad else "")


@rule("causality")
def causality(candidate: Candidate, model: Backbone, x: Tensor) -> Outcome:
    """Changing the tokens from t on changes no output before t, exactly, for every t. In training, for a few t."""
    other, leaks = candidate.inputs(seed=2), dict[int, float]()
    places = range(1, candidate.length)
    for training, where in ((False, places), (True, places[:: max(1, len(places) // 3)])):
        model.train(training)
        y = seeded(model, x)
        for t in where:
            error = error_of(seeded(model, torch.cat((x[:, :t], other[:, t:]), 1))[:, :t], y[:, :t])
            if error > 0:  # what is not finite has a rule of its own
                leaks[t] = max(error, leaks.get(t, 0.0))
    worst = f"; the future leaks at {list(leaks)[:8]}, by up to {max(leaks.values()):.1e}" if leaks else ""
    return not leaks, f"{candidate.length - 1} positions changed, exact, also in training{worst}"


def seeded(model: Backbone, x: Tensor) -> Tensor:
    """`forward` with the same dropout for every input of one shape."""
    torch.manual_seed(0)
    return model(x)  # type: ignore[no-any-return]


@rule("parallel equals step by step")
def stepwise(candidate: Candidate, model: Backbone, x: Tensor) -> Outcome:
    """`step` gives the columns of `forward`."""
    return within(error_of(steps(model, x)[0], model(x)), f"{candidate.length} tokens")


@rule("pieces equal single steps")
def extend(candidate: Candidate, model: Backbone, x: Tensor) -> Outcome:
    """Tokens in pieces give the same outputs as one by one."""
    per_step, errors = candidate.spec.tokens_per_step, []
    expected, _ = steps(model, x)
    for size in sorted({2, per_step, per_step + 1}):
        state, start = model.initial_state(len(x)), 0
        for piece in torch.split(x, size, dim=1):
            y, state = model.extend(piece, state)
            errors.append(error_of(y, expected[:, start : start + piece.shape[1]]))
            start += piece.shape[1]
    y, _ = model.extend(x[:, :per_step], model.initial_state(len(x)), LAST)
    errors.append(error_of(y[:, 0], expected[:, min(per_step, candidate.length) - 1]))
    return within(max(errors), f"{candidate.length} tokens in pieces of 2, {per_step} and {per_step + 1}")


@rule("chosen positions")
def positions(candidate: Candidate, model: Backbone, x: Tensor) -> Outcome:
    """Outputs computed at some positions only equal those of `forward`."""
    y = model(x)
    kept = [keep for keep in (ALL, LAST, slice(1, None, 3)) if y[:, keep].numel()]
    errors = [error_of(model.forward_at(x, keep), y[:, keep]) for keep in kept]
    for n in range(1, candidate.length + 1):
        errors.append(error_of(model.mix(model.project(x[:, :n]), LAST), y[:, n - 1 : n]))
    return within(max(errors), f"every third, the last of 1 to {candidate.length}")


@rule("window acting past the context")
def window_acting(candidate: Candidate, model: Backbone, x: Tensor) -> Outcome:
    """Protocol `window`: what `project` gave for earlier tokens serves every later window of complete steps."""
    tokens, pieces = candidate.episode()
    longest = candidate.spec.max_length // candidate.spec.tokens_per_step * candidate.spec.tokens_per_step
    size, end, errors = min(longest, longest - candidate.spec.tokens_per_step + pieces[0]), 0, []
    kept: Any = None
    for count in pieces:
        new = model.project(tokens[:, end : end + count])
        kept = new if kept is None else map_state(lambda *parts: torch.cat(parts, 1)[:, -size:], kept, new)
        end += count
        errors.append(error_of(model.mix(kept, LAST), model(tokens[:, max(0, end - size) : end])[:, -1:]))
    return within(max(errors), f"{end} tokens, windows of up to {size}")


def of_parts(model: Backbone, rule: Callable[[Any], Outcome]) -> Outcome:
    """The outcome of a rule on one mixer of each kind in a stack, or on a complete backbone."""
    mixers = [layer.mixer for layer in model.layers] if isinstance(model, ResidualStack) else [model]
    outcomes = {part: rule(part) for part in {type(mixer): mixer for mixer in mixers}.values()}
    if len(outcomes) == 1:
        return next(iter(outcomes.values()))
    said = "; ".join(f"{type(part).__name__}: {detail}" for part, (_, detail) in outcomes.items())
    return all(passed for passed, _ in outcomes.values()), said


@rule("recurrent acting past the context")
def recurrent_acting(candidate: Candidate, model: Backbone, x: Tensor) -> Outcome:
    """Past max_length, `step` is `forward` over the complete history, or over the last complete steps.

    Measured on one mixer of each kind: in a stack of windows each layer remembers what the layer below saw.
    """
    return of_parts(model, lambda part: recurrent_acting_of(candidate, part))


def recurrent_acting_of(candidate: Candidate, part: Causal) -> Outcome:
    """The rule for one mixer, or for a complete backbone."""
    tokens, pieces = candidate.episode()
    generator = torch.Generator().manual_seed(5)
    for parameter in part.parameters():  # at the start, many mixers hardly mix
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    y, longest = steps(part, tokens)[0], candidate.spec.max_length
    size = max(1.0, float(y.abs().max()))
    late = torch.arange(longest, tokens.shape[1])
    first = candidate.spec.first_kept(late).tolist()
    windows = [part(tokens[:, begin : int(t) + 1])[:, -1] for begin, t in zip(first, late, strict=True)]
    errors = {"the last complete steps": error_of(torch.stack(windows, 1), y[:, longest:]) / size}
    if type(part).step is not Causal.step:
        errors["the complete history"] = error_of(part(tokens)[:, longest:], y[:, longest:]) / size
    state, end, apart = part.initial_state(len(tokens)), 0, 0.0
    for count in pieces:
        last, state = part.extend(tokens[:, end : end + count], state, LAST)
        end += count
        apart = max(apart, error_of(last[:, 0], y[:, end - 1]) / size)
    what = min(errors, key=lambda name: errors[name])
    known = errors[what] <= TOLERANCE
    if isinstance(part, Backbone) and "the complete history" in errors and not known:
        what, known = "a memory of its own", bool(y.isfinite().all())  # such as one window for each layer
    said = "; ".join(f"{name}: {error:.1e}" for name, error in errors.items())
    return known and apart <= TOLERANCE, f"{end} tokens, equals {what if known else 'neither'} ({said})"


@rule("the lengths of presets")
def preset_lengths(candidate: Candidate, model: Backbone, x: Tensor) -> Outcome:
    """Causal, and each row alone, also at the longest window and the largest batch of presets.

    A scan in chunks or a kernel in tiles may be right below its size only.
    """
    batch, length = LARGEST
    long = candidate.make(replace(candidate.spec, max_length=max(length, candidate.spec.max_length)))
    x = torch.randn(batch, length, candidate.spec.d_model, generator=torch.Generator().manual_seed(6))
    y = long(x)
    errors = [error_of(long(x[:, :n]), y[:, :n]) for n in (1, length // 3, 2 * length // 3, length - 1)]
    return within(max(*errors, error_of(long(x[:2]), y[:2])), f"{length} tokens, {batch} rows")


@rule("padded equals unpadded")
def padding(candidate: Candidate, model: Backbone, x: Tensor) -> Outcome:
    """Padding on the right does not change the outputs before it."""
    lengths = range(1, candidate.length)
    padded = [F.pad(x[:, :n], (0, 0, 0, candidate.length - n)) for n in lengths]
    pairs = zip(lengths, padded, strict=True)
    error = max((error_of(model(p)[:, :n], model(x[:, :n])) for n, p in pairs), default=0.0)
    return within(error, f"lengths 1 to {candidate.length - 1} padded to {candidate.length}")


@rule("reset")
def reset(candidate: Candidate, model: Backbone, x: Tensor) -> Outcome:
    """Rows that were reset restart, the others continue. Every tensor of the state is batch first."""
    cut = candidate.length // 2
    if cut == 0:
        return True, "contexts of one token: nothing to reset"
    _, state = steps(model, x[:, :cut])
    mixed, _ = steps(model, x[:, cut:], model.reset(state, torch.tensor([True, False, True])))
    continued, _ = steps(model, x[1:2], None)
    fresh, _ = steps(model, x[:, cut:])
    error = max(error_of(mixed[::2], fresh[::2]), error_of(mixed[1:2], continued[:, cut:]))
    sizes: list[int] = []
    map_state(lambda leaf: sizes.append(len(leaf)), state)
    if set(sizes) - {BATCH}:
        return False, f"the state is not batch first: its tensors have {sorted(set(sizes))} rows for a batch of {BATCH}"
    chosen, _ = steps(model, x[1:2, cut:], select_rows(state, torch.tensor([1])))
    error = max(error, error_of(chosen, continued[:, cut:]))
    return within(error, f"rows 0 and 2 reset after {cut} tokens")


@rule("batch independence")
def batch_independence(candidate: Candidate, model: Backbone, x: Tensor) -> Outcome:
    """A row's output does not depend on the other rows, also in training."""
    y, errors = model(x), []
    for row in range(len(x)):
        own = slice(row, row + 1)
        errors.append(error_of(model(x[own]), y[own]))
        other = 5 * candidate.inputs(seed=2)
        other[own] = x[own]
        for training in (False, True):
            model.train(training)
            errors.append(error_of(seeded(model, other)[own], seeded(model, x)[own]))
        model.eval()
    return within(max(errors), "each row with other rows, also in training, and alone")


@rule("gradients reach every parameter", gradients=True)
def gradients(candidate: Candidate, model: Backbone, x: Tensor) -> Outcome:
    """Every parameter gets a gradient that is finite and not zero."""
    torch.autograd.backward((model(x) * candidate.inputs(seed=3)).sum())
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    bad = [name for name, g in grads.items() if g is None or not bool(g.isfinite().all()) or not bool(g.any())]
    total = len(grads)
    return not bad, f"{total - len(bad)} of {total} parameters" + (f"; not {', '.join(bad[:4])}" if bad else "")


@rule("learning", gradients=True)
def learning(candidate: Candidate, model: Backbone, x: Tensor) -> Outcome:
    """A few optimiser updates lower the loss of a small regression."""
    if not list(model.parameters()):
        return True, "no parameters"
    _, losses = train(candidate, 5)
    return losses[-1] < losses[0], f"loss {losses[0]:.4f} -> {losses[-1]:.4f} in {len(losses) - 1} updates"


@rule("equal seeds, equal bits", gradients=True)
def determinism(candidate: Candidate, model: Backbone, x: Tensor) -> Outcome:
    """Equal seeds give equal bits, also with dropout and after updates."""
    runs = []
    for _ in range(2):
        model, losses = train(candidate, 2)
        torch.manual_seed(7)
        runs.append((losses, model.train()(candidate.inputs()).detach(), [p.detach() for p in model.parameters()]))
    (losses, y, weights), (losses2, y2, weights2) = runs
    same_weights = all(torch.equal(a, b) for a, b in zip(weights, weights2, strict=True))
    passed = losses == losses2 and torch.equal(y, y2) and same_weights
    return passed, f"two runs of 2 updates and one pass with dropout: outputs differ by {error_of(y, y2):.1e}"


@rule("save and load")
def save_and_load(candidate: Candidate, model: Backbone, x: Tensor) -> Outcome:
    """A saved state dict gives the same bits when a model with other weights loads it."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    other = candidate.make()
    for parameter in other.parameters():
        parameter.add_(1.0)
    other.load_state_dict(loaded)
    shared = len(loaded) - len({tensor.data_ptr() for tensor in loaded.values() if tensor.numel()})
    detail = f"{len(loaded)} tensors, {file.tell()} bytes, difference {error_of(other(x), model(x)):.1e}"
    if shared > 0:
        return False, f"{detail}; {shared} share memory with another, which safetensors refuses"
    return torch.equal(other(x), model(x)), detail


@rule("options")
def options(candidate: Candidate, model: Backbone, x: Tensor) -> Outcome:
    """Options are a frozen dataclass that a mapping of its fields restores."""
    made = model.options
    if not dataclasses.is_dataclass(made) or isinstance(made, type):
        return False, f"options are a {type(made).__name__}; make them a frozen dataclass"
    values = dataclasses.asdict(made)
    again = make_options(type(made), values)
    frozen = type(made).__dataclass_params__.frozen  # type: ignore[attr-defined]
    return again == made and frozen, f"{len(values)} options" + ("" if frozen else "; the dataclass is not frozen")


@rule("initialisation")
def initialisation(candidate: Candidate, model: Backbone, x: Tensor) -> Outcome:
    """The stack sets the parameters that a mixer hands over, and leaves what carries `_no_reinit`."""
    if not isinstance(model, ResidualStack):
        return True, "a complete stack initialises itself"
    return of_parts(model, initialisation_of)


def initialisation_of(known: Any) -> Outcome:
    """The rule for one mixer."""
    mixer = type(known)(known.options, known.spec)
    before = {name: parameter.clone() for name, parameter in mixer.named_parameters()}
    mixer.initialise(0.5)
    changed = [name for name, parameter in mixer.named_parameters() if not torch.equal(parameter, before[name])]
    refused = [name for name in changed if getattr(mixer.get_parameter(name), "_no_reinit", False)]
    detail = f"the stack sets {', '.join(changed) or 'nothing'}; {len(before) - len(changed)} parameters stay"
    return not refused, detail + (f"; {', '.join(refused)} must stay" if refused else "")


@rule("cost")
def cost(candidate: Candidate, model: Backbone, x: Tensor) -> Outcome:
    """`flops` does not shrink with the context, and is not below what ran, nor below the weights."""
    length = candidate.length - candidate.length % candidate.spec.tokens_per_step or candidate.length
    least, most = (model.flops(n) for n in (1, length))
    parts: list[Any] = [part for part in model.modules() if isinstance(part, Causal)]
    if least is None or most is None:
        reasons = {count_layers(part, length).reason for part in parts if type(part).flops is Causal.flops} - {""}
        return True, f"unknown: {'; '.join(sorted(reasons))}. Define flops to have a cost"
    ran, weights = flops.measured(model, length, candidate.spec.d_model), flops.least(model)
    detail = f"{least:,.0f} FLOPs per token at length 1, {most:,.0f} at {length}"
    if estimated := estimated_flops(model):
        detail += f"; estimated, one product each: {', '.join(estimated[:3])}{', …' if len(estimated) > 3 else ''}"
    if most * flops.SLACK < ran:
        return False, f"{detail}; forward ran {ran:,.0f}"
    if most * flops.SLACK < weights and all(part.uses_all_weights for part in parts):
        return False, f"{detail}; its weights alone make {weights:,.0f} (if not, declare uses_all_weights = False)"
    return 0 <= least <= most, detail


def check(
    name: str | type[Causal],
    options: Mapping[str, Any] | object | None = None,
    spec: Spec | None = None,
    only: Collection[str] = RULES,
) -> list[CheckResult]:
    """Check the rules of the contract on a backbone, all or ``only`` some, on the CPU in float32, within seconds.

    Takes what `build` takes. Default ``spec``: width 32, two layers or as many as a hybrid has parts, dropout 0.1,
    contexts of up to 21 tokens. Returns one result per rule, in a fixed order. If a rule raises, it has failed, and
    the detail is the error. Raises UserError if the backbone cannot be built at all.
    """
    parts = name.count("+") + 1 if isinstance(name, str) else 1
    usual = spec or Spec(d_model=32, n_layers=max(2, parts), max_length=21)

    def make(spec: Spec = usual) -> Backbone:
        torch.manual_seed(0)
        return build(name, options, spec).eval()

    results = []
    with torch.random.fork_rng(devices=[]):
        make()  # raise the user's mistakes here, before they look like faults of the backbone
        candidate = Candidate(make, usual, min(usual.max_length, 24))
        for title, rule in ((title, RULES[title]) for title in RULES if title in only):
            try:
                passed, detail = rule(candidate, make(), candidate.inputs())
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # a backbone may raise anything, SystemExit too; its author needs to read it
                passed, detail = False, f"raised {type(error).__name__}: {error}"
            results.append(CheckResult(title, passed, detail))
    return results
