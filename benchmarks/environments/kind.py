"""All that differs between kinds of environments: one ``EnvironmentKind`` a kind, listed in ``registry``."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.environments.atari.protocol import AtariProtocol
from backbench.benchmarks.environments.observe import Observe

# Reads the spaces (observations, actions) of a data set that another program wrote; None for other sets.
Recorded = Callable[[], tuple[Any, Any]] | None
# States (m, *observation), raw rewards (m,), and whether each of m episodes ended (m,).
Stepped = tuple[NDArray[Any], NDArray[np.float64], NDArray[np.bool_]]


class Environments(Protocol):
    """A batch of environments, one episode each. The caller does not step those that have ended."""

    def reset(self, seeds: Sequence[int]) -> NDArray[Any]:
        """Start all of them; states (count, *observation)."""

    def step(self, numbers: Sequence[int], actions: NDArray[Any]) -> Stepped:
        """Step environments ``numbers`` (m,) with their actions (m, …)."""

    def close(self) -> None:
        """Free their resources."""


@dataclass(frozen=True)
class EnvironmentSpec:
    """Everything needed to make one environment."""

    env_id: str  # Gymnasium's, such as Hopper-v5 or ALE/Breakout-v5
    kwargs: Mapping[str, Any] = field(default_factory=dict)  # for gymnasium.make
    protocol: AtariProtocol | None = None  # how an Atari game is played; None for other kinds
    observe: Observe | None = None  # what the agent sees of its vectors; None for all


class Sizes(NamedTuple):
    """Sizes of the states and actions of an environment or a data set."""

    state_shape: tuple[int, ...]  # (n,) or (stack, height, width)
    n_actions: int | None  # discrete actions; None for action vectors
    action_dim: int  # length of an action vector; 0 for discrete actions


class Camera(NamedTuple):
    """How to show an episode: seconds a step, and states (1, *observation) to a frame or to positions (nq,)."""

    seconds: float
    view: Callable[[NDArray[Any]], NDArray[Any]]


class EnvironmentKind(ABC):
    """One kind of environment. Defaults fit Gymnasium environments with vector observations."""

    frames = False  # states are stacked frames, uint8 (stack, height, width); else float32 vectors
    timesteps_from_data = False  # the timestep table is as long as the data's longest episode, whatever is evaluated
    presets: tuple[str, ...] = ()  # folders below configs/preset for suites of this kind
    model_settings: tuple[str, ...] = ("timestep", "embedding")  # of ModelConfig; they shape the agent
    # Beginnings of overrides that change nothing. (A user's suite may have discrete actions, and a temperature.)
    unused_settings: tuple[str, ...] = ("atari.", "model.encoder", "eval.temperature")

    def protocol(self, settings: AtariProtocol) -> AtariProtocol | None:
        """What a cell of this kind stores of the settings ``atari.*``."""
        return None

    def suite_problem(self, env_id: str, kwargs: Mapping[str, Any], limited: bool) -> str:
        """Why a user's suite cannot have this environment, or "". ``limited``: the suite sets ``max_steps``."""
        return ""

    def max_steps(self, spec: EnvironmentSpec, declared: int, asked: int) -> int:
        """Longest evaluation episode, in steps; ``declared`` by the task, ``asked`` by the user, or 0."""
        return asked or declared

    @abstractmethod
    def make(self, spec: EnvironmentSpec, count: int) -> Environments:
        """A batch of ``count`` environments; ``UserError`` if it cannot be made."""

    @abstractmethod
    def probe(self, spec: EnvironmentSpec, requires: str = "", remedy: str = "") -> None:
        """Raise ``UserError``, with the extra that it ``requires`` or a ``remedy``, unless it can be played here."""

    @abstractmethod
    def sizes(self, spec: EnvironmentSpec) -> Sizes:
        """Sizes of the states that the agent sees, and of the actions."""

    def stack(self, spec: EnvironmentSpec) -> int:
        """Frames in a state; 0 if states are vectors."""
        return 0

    @abstractmethod
    def check_data(self, spec: EnvironmentSpec, name: str, data: Sizes, recorded: Recorded) -> None:
        """Raise ``UserError`` unless data set ``name``, unfiltered, has the environment's states and actions."""

    @abstractmethod
    def state_shape(self, weights: Mapping[str, Any]) -> tuple[int, ...]:
        """Shape of the states that an agent with these ``weights`` sees."""

    def blank_state(self, shape: tuple[int, ...]) -> NDArray[Any]:
        """(1, *shape): a state to time a decision on."""
        return np.zeros((1, *shape), dtype=np.uint8 if self.frames else np.float32)

    def conventions(self, spec: EnvironmentSpec) -> dict[str, Any]:
        """What the record says of the environment beyond its id."""
        return dict(spec.kwargs)

    @abstractmethod
    def camera(self, spec: EnvironmentSpec, environments: Environments) -> Camera:
        """How to show the first of ``environments``; ``UserError`` if ``bench watch`` cannot."""

    def lag(self, spec: EnvironmentSpec) -> int | None:
        """Most steps from what an answer needs to the answer; None if the environment does not say."""
        return None

    def action_names(self, spec: EnvironmentSpec) -> tuple[str, ...]:
        """Names of the discrete actions; empty if they have none."""
        return ()
