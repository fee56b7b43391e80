"""Examination of models: a model is timed only if its kernels, its outputs and its acting are right."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from backbench.agents.acting import ACTING, make_actor
from backbench.agents.agent import Agent
from backbench.agents.build import count_parameters
from backbench.backbones.fast import state_bytes
from backbench.backbones.kernels import forget_ran, ran
from backbench.benchmarks.speed.config import OBSERVATION, SpeedConfig
from backbench.benchmarks.speed.equality import Unequal, check_operation, largest_error
from backbench.benchmarks.speed.models import Model, Policy, RecomputingActor, Weight, make_policy, same_names, windows
from backbench.benchmarks.speed.report import ModelEntry
from backbench.errors import UserError, one_line
from backbench.leaderboard.record.fields import without_paths


@dataclass
class Examiner:
    """Checks models and kernels, each kernel once."""

    config: SpeedConfig
    say: Callable[[str], None] = lambda _: None  # gets lines of progress
    known: dict[tuple[str, str], float | Unequal] = field(default_factory=dict)

    def kernel(self, operation: str, implementation: str) -> float:
        """The largest error of an implementation. Raises ``Unequal``."""
        key = (operation, implementation)
        if key not in self.known:
            try:
                self.known[key] = check_operation(*key, self.config.device, self.config.bf16)
            except Unequal as error:
                self.known[key] = error
            except Exception as error:  # whatever an implementation raises is why it is not timed
                self.known[key] = Unequal(f"{operation} {implementation} raised {type(error).__name__}: {error}")
        if isinstance(found := self.known[key], Unequal):
            raise found
        return found

    def entry(self, model: Model) -> ModelEntry:
        """The model's facts, what was checked, and why it is refused, if it is. UserError: a wrong option."""
        found: dict[str, Any] = {"parameters": 0, "flops_per_token": None, "kernels": {}, "checks": (), "refused": None}
        found["state_bytes"] = None
        try:
            policy = model.make(self.config, self.config.context)
            found["parameters"] = count_parameters(policy)
            if isinstance(policy, Agent):
                found["flops_per_token"] = policy.backbone.flops(policy.backbone.spec.max_length)
                found["state_bytes"] = state_bytes(policy.backbone)
            found["kernels"], found["checks"] = self.check(model)
        except Unequal as error:
            found["refused"] = without_paths(str(error))
        except UserError:
            raise
        except Exception as error:  # whatever a backbone raises is why it is not timed
            found["refused"] = without_paths(f"raised {type(error).__name__}: {one_line(error, 200)}")
        return ModelEntry(model=model.name, peer_of=model.ours.name if model.ours else None, **found)

    def check(self, model: Model) -> tuple[dict[str, str], list[str]]:
        """The kernels of a training step and of acting, and each check with its largest error. Unequal: one fails."""
        config = self.config
        policy = make_policy(model, config, config.context).eval()
        forget_ran()
        self._outputs(policy, config.bf16)
        kernels = ran()
        checks = [
            f"{operation} {name} = reference: {self.kernel(operation, name):.1e}"
            for operation, names in kernels.items()
            for name in names.split("+")
        ]
        # Complete models are compared in float32: rounding each layer to bfloat16 would hide an error.
        if model.reference is not None:
            reference = model.reference(config, config.context).to(config.device).eval()
            reference.load_state_dict(policy.state_dict())
            error = self._difference(policy, reference, same_names(reference, policy))
            checks.append(f"complete model = with reference kernels: {error:.1e}")
        if model.ours is not None:
            ours = make_policy(model.ours, config, config.context).eval()
            error = self._difference(policy, ours, model.weights(ours, policy))
            checks.append(f"{model.name} = {model.ours.name}: {error:.1e}")
        if isinstance(policy, Agent):
            forget_ran()
            for acting in ACTING:
                checks.append(f"acting {acting} = complete window: {self._acting_error(policy, acting):.1e}")
        return ran() | kernels, checks

    def _outputs(self, policy: Policy, bf16: bool = False) -> list[Tensor]:
        """Actions on a small batch, then the gradient of the loss for each parameter."""
        batch = windows(4, self.config.context, self.config.device)
        with torch.autocast(torch.device(self.config.device).type, torch.bfloat16, enabled=bf16):
            actions = policy(batch.returns_to_go, batch.states, batch.actions, batch.timesteps)
            loss = policy.loss(batch)
        parameters = list(policy.parameters())
        return [actions, *torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)]

    def _difference(self, theirs: Policy, ours: Policy, pairs: list[Weight]) -> float:
        """Largest error of ``theirs`` against ``ours``, which has the same weights."""
        wanted, got = self._outputs(ours), self._outputs(theirs)
        own = dict(zip(map(id, ours.parameters()), wanted[1:], strict=True))
        other = dict(zip(map(id, theirs.parameters()), got[1:], strict=True))
        actual, expected = [got[0]], [wanted[0]]
        for pair in pairs:
            actual.append(other[id(pair.theirs)])
            expected.append(pair.arranged(*(own[id(parameter)] for parameter in pair.ours)))
        return largest_error(actual, expected, ["actions", *(f"gradient of {pair.name}" for pair in pairs)])

    @torch.no_grad()
    def _acting_error(self, agent: Agent, acting: str) -> float:
        """Largest error of decisions against one pass of the complete model over the same window."""
        context, device = self.config.context, self.config.device
        count = 2 * context + 1 if acting == "window" else context  # until the window has moved on by one length
        g = torch.Generator().manual_seed(1)
        targets = torch.tensor([3000.0, 6000.0], device=device)
        actors = make_actor(agent, acting, targets, context), RecomputingActor(agent, targets, context)
        taken: tuple[list[Tensor], list[Tensor]] = ([], [])
        for _ in range(count):
            states = torch.randn(2, OBSERVATION, generator=g).to(device)
            rewards = torch.randn(2, generator=g).to(device)
            for actor, actions in zip(actors, taken, strict=True):
                actions.append(actor.act(states))
                actor.update(rewards)
        got, wanted = (torch.stack(actions, 1) for actions in taken)
        return largest_error([got], [wanted], [f"acting {acting}"])
