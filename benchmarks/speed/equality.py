"""Nothing is timed before it proved equal: kernels to their reference, peers to ours, acting to the whole model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbench.agents.acting import make_actor
from backbench.agents.agent import Agent
from backbench.backbones.kernels import OPERATIONS, attention, causal_conv1d, forget_ran, ran, selective_scan
from backbench.benchmarks.speed.config import OBSERVATION, SpeedConfig
from backbench.benchmarks.speed.models import Policy, Subject, WholeWindowActor, windows

# Largest allowed error, relative to the largest entry of each tensor.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
SHAPES = ((3, 37, 24, 5), (2, 60, 256, 16))  # batch, length, channels, state: odd ones, and a model's
Function = Callable[..., Tensor]


class Unequal(Exception):
    """An equality test failed; the message says which, and by how much."""


def errors(actual: Sequence[Tensor], expected: Sequence[Tensor], names: Sequence[str]) -> tuple[str, float]:
    """The name of the tensor that is furthest off, and its error; infinite where a number is not finite."""
    worst = ("nothing", 0.0)
    for name, a, e in zip(names, actual, expected, strict=True):
        scale = e.detach().abs().max().clamp(min=1e-7)
        error = float((a.detach().to(e) - e.detach()).abs().max() / scale)
        error = error if error == error else float("inf")
        worst = (name, error) if error > worst[1] else worst
    return worst


def within(worst: tuple[str, float], tolerance: float) -> float:
    """The error, when it is within ``tolerance``; raises ``Unequal`` otherwise."""
    name, error = worst
    if error > tolerance:
        raise Unequal(f"{name} off by {error:.1e} of its largest entry, allowed {tolerance:.0e}")
    return error


def values_and_gradients(function: Function, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The output, and the gradient of every input under a fixed random weighting of the output."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    y = function(*leaves)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    loss = (y * weight.to(y.device, y.dtype)).sum()
    return [y, *torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)]


def scan_inputs(batch: int, length: int, channels: int, state: int, device: torch.device) -> list[Tensor]:
    """x, dt, A, B, C, D as they are in a model: slow and fast decays."""
    g = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    dt = F.softplus(2 * randn(batch, length, channels) - 4)
    A = -torch.exp(randn(channels, state))
    B, C = randn(batch, length, state), randn(batch, length, state)
    return [t.to(device) for t in (randn(batch, length, channels), dt, A, B, C, randn(channels))]


def operation_inputs(
    operation: str, shape: tuple[int, int, int, int], device: torch.device
) -> tuple[list[Tensor], tuple[str, ...]]:
    """Inputs of ``operation`` for (batch, length, channels, state), and what they are called."""
    batch, length, channels, _ = shape
    g = torch.Generator().manual_seed(0)
    if operation == "selective_scan":
        return scan_inputs(*shape, device), ("x", "dt", "A", "B", "C", "D")
    shapes: list[tuple[int, ...]] = [(batch, 2, length, channels // 2)] * 3
    names = ("q", "k", "v")
    if operation == "causal_conv1d":
        shapes, names = [(batch, length, channels), (channels, 4), (channels,)], ("x", "weight", "bias")
    return [torch.randn(size, generator=g).to(device) for size in shapes], names


def uses(operation: str) -> dict[str, Function]:
    """The ways in which models call an operation, each a function of the implementation's name and the inputs."""
    if operation == "selective_scan":

        def windowed(window: int | None) -> Function:
            return lambda name, *inputs: selective_scan(*inputs, window=window, implementation=name)

        def gated(name: str, x: Tensor, *rest: Tensor) -> Tensor:
            return selective_scan(x, *rest, gate=x.flip(1), softplus=True, implementation=name)

        return {"": windowed(None), " window 3": windowed(3), " window 6": windowed(6), " gate, softplus": gated}
    if operation == "causal_conv1d":
        return {
            "": lambda name, *inputs: causal_conv1d(*inputs, implementation=name),
            " silu": lambda name, *inputs: causal_conv1d(*inputs, silu=True, implementation=name),
        }
    keep = slice(1, None, 3)
    return {
        "": lambda name, *inputs: attention(*inputs, implementation=name),
        " some positions": lambda name, q, k, v: attention(q[:, :, keep], k, v, keep=keep, implementation=name),
    }


def check_operation(operation: str, implementation: str, device: torch.device, bf16: bool = False) -> float:
    """Compare an implementation with the reference in float64; the largest error.

    With ``bf16``, inputs are what autocast gives: bfloat16, but for the scan's A and D.

    Raises:
        Unequal: a value or gradient is further off than the tolerance.
    """
    largest = 0.0
    for shape in SHAPES:
        inputs, names = operation_inputs(operation, shape, device)
        if bf16:
            inputs = [t if name in ("A", "D") else t.bfloat16() for name, t in zip(names, inputs, strict=True)]
        tolerance = TOLERANCE[torch.bfloat16 if bf16 else torch.float32]
        called = ("values", *(f"gradient of {name}" for name in names))
        for use, function in uses(operation).items():
            if use == " some positions" and not OPERATIONS[operation].table[implementation].fused:
                continue
            got = values_and_gradients(partial(function, implementation), inputs)
            wanted = values_and_gradients(partial(function, "reference"), [t.double() for t in inputs])
            worst, error = errors(got, wanted, called)
            what = f"{operation} {implementation}{use} at {'x'.join(map(str, shape))}: {worst}"
            largest = max(largest, within((what, error), tolerance))
    return largest


@dataclass
class Examiner:
    """Checks subjects and kernels, each kernel once."""

    config: SpeedConfig
    device: torch.device
    known: dict[tuple[str, str], float | Unequal] = field(default_factory=dict)

    def kernel(self, operation: str, implementation: str) -> float:
        """The largest error of an implementation; raises ``Unequal``."""
        key = (operation, implementation)
        if key not in self.known:
            try:
                self.known[key] = check_operation(*key, self.device, self.config.bf16)
            except Unequal as error:
                self.known[key] = error
            except Exception as error:  # whatever an implementation raises is why it is not timed
                self.known[key] = Unequal(f"{operation} {implementation} raised {type(error).__name__}: {error}")
        found = self.known[key]
        if isinstance(found, Unequal):
            raise found
        return found

    def subject(self, subject: Subject) -> tuple[dict[str, str], list[str]]:
        """What ran in a training step of ``subject``, and what was checked with its largest error.

        Raises:
            Unequal: one of its kernels, the whole, or its acting is not what it should be.
        """
        policy = make(subject, self.config, self.config.model.context, self.device).eval()
        forget_ran()
        self._gradients(policy, self.config.bf16)
        kernels = ran()
        # Wholes are compared in float32: rounding to bfloat16 layer after layer hides what a comparison is to find.
        got = self._gradients(policy)
        checks = []
        for operation, names in kernels.items():
            for name in names.split("+"):
                checks.append(f"{operation} {name} = reference: {self.kernel(operation, name):.1e}")
        if subject.plain is not None:
            plain = subject.plain(self.config, self.config.model.context).to(self.device).eval()
            plain.load_state_dict(policy.state_dict())
            called = ["actions", *(f"gradient of {name}" for name, _ in policy.named_parameters())]
            error = within(errors(got, self._gradients(plain), called), TOLERANCE[torch.float32])
            checks.append(f"the whole = with reference kernels: {error:.1e}")
        if subject.twin is not None and subject.weights is not None:
            checks.append(f"{subject.name} = {subject.twin.name}: {self._twins(subject, subject.twin):.1e}")
        if isinstance(policy, Agent):
            checks += [f"acting {acting} = whole window: {self._acting(policy, acting):.1e}"
                       for acting in ("window", "recurrent")]  # fmt: skip
        return kernels, checks

    def _gradients(self, policy: Agent | Policy, bf16: bool = False) -> list[Tensor]:
        """Actions on a small batch, and the gradient of the loss for each parameter."""
        batch = windows(4, self.config.model.context, self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            actions = policy(batch.returns_to_go, batch.states, batch.actions, batch.timesteps)
            loss = policy.loss(batch)
        parameters = list(policy.parameters())
        return [actions, *torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)]

    def _twins(self, subject: Subject, twin: Subject) -> float:
        """A peer and the one of ours that it stands beside, with the same weights."""
        assert subject.weights is not None
        theirs = make(subject, self.config, self.config.model.context, self.device).eval()
        ours = make(twin, self.config, self.config.model.context, self.device).eval()
        pairs = subject.weights(ours, theirs)
        got = dict(zip(map(id, theirs.parameters()), self._gradients(theirs)[1:], strict=True))
        own = dict(zip(map(id, ours.parameters()), self._gradients(ours)[1:], strict=True))
        wanted, actual, names = [self._gradients(ours)[0]], [self._gradients(theirs)[0]], ["actions"]
        for pair in pairs:
            gradient = got[id(pair.theirs)]
            wanted.append(own[id(pair.ours)])
            actual.append(gradient.t() if pair.transposed else gradient)
            names.append(f"gradient of {pair.name}")
        return within(errors(actual, wanted, names), TOLERANCE[torch.float32])

    @torch.no_grad()
    def _acting(self, agent: Agent, acting: str) -> float:
        """Decisions are those of one pass of the whole model over the same window; a window goes on until it slid."""
        context = self.config.model.context
        count = 2 * context + 1 if acting == "window" else context
        g = torch.Generator().manual_seed(1)
        targets = torch.tensor([3000.0, 6000.0], device=self.device)
        actors = make_actor(agent, acting, targets, context), WholeWindowActor(agent, targets, context)
        taken: tuple[list[Tensor], list[Tensor]] = ([], [])
        for _ in range(count):
            states = torch.randn(2, OBSERVATION, generator=g).to(self.device)
            rewards = torch.randn(2, generator=g).to(self.device)
            for actor, actions in zip(actors, taken, strict=True):
                actions.append(actor.act(states))
                actor.update(rewards)
        got, wanted = (torch.stack(actions, 1) for actions in taken)
        return within(errors([got], [wanted], [f"acting {acting}"]), TOLERANCE[torch.float32])


def make(subject: Subject, config: SpeedConfig, context: int, device: torch.device) -> Agent | Policy:
    """The subject on ``device``; a peer with the weights of its twin."""
    policy = subject.make(config, context)
    if subject.twin is not None and subject.weights is not None:
        ours: nn.Module = subject.twin.make(config, context)
        with torch.no_grad():
            for pair in subject.weights(ours, policy):
                pair.theirs.copy_(pair.ours.t() if pair.transposed else pair.ours)
    return policy.to(device)
