"""What all memory tasks share: an episode is drawn when it starts, and no action changes what is seen.

At some steps the task asks. An action answers, or waits. Each right answer earns 1 / (number of questions), rounded
down to a multiple of 2^-30: sums are then exact, and no return is above 1, the oracle's.
"""

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.float32]
Numbers = NDArray[np.int64]
WAIT = 0  # the action that answers nothing; action 1 + i gives answer i
NONE = -1  # no question
GRID = 2**30  # parts of a reward of 1


class Script(NamedTuple):
    """One episode of T steps."""

    seen: Bits  # (T, size) observations, zeros and ones
    answers: Numbers  # (T,) right answer, NONE where nothing is asked
    hidden: Numbers  # (T,) what a policy has to remember, as an answer; NONE where it is nothing yet


class MemoryTask(gym.Env):  # type: ignore[misc]  # Gymnasium has no types here
    """A scripted task. Observations are vectors of zeros and ones, actions are discrete.

    ``seen`` appends the hidden variable to the observation, one-hot: a policy of one step can then solve the task.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(self, size: int, answers: int, steps: int, lag: int, seen: bool) -> None:
        self.needed_lag = lag  # most steps from what an answer needs to the answer
        self.answers, self.steps, self.shown = answers, steps, seen
        self.observation_space = gym.spaces.Box(0.0, 1.0, (size + answers * seen,), np.float32)
        self.action_space = gym.spaces.Discrete(1 + answers)
        self._episode: Script | None = None
        self._time = 0

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Script:
        """A new episode. It draws integers only, which are equal on every machine."""

    @property
    def oracle(self) -> int:
        """The right action now: the answer, or to wait."""
        return 1 + int(self.script.answers[self._time])

    @property
    def script(self) -> Script:
        """The episode that is played."""
        assert self._episode is not None, "call reset first"
        return self._episode

    @property
    def asked(self) -> NDArray[np.bool_]:
        """(T,) the steps at which this episode asks."""
        assert self._episode is not None, "call reset first"
        asked: NDArray[np.bool_] = self._episode.answers != NONE
        return asked

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Bits, dict[str, Any]]:
        super().reset(seed=seed)
        self._episode, self._time = self.draw(self.np_random), 0
        return self._observation(), {}

    def step(self, action: np.int64 | int) -> tuple[Bits, float, bool, bool, dict[str, Any]]:
        answers = self.script.answers
        answer = answers[self._time]
        right = answer != NONE and action == 1 + answer
        reward = GRID // int((answers != NONE).sum()) / GRID if right else 0.0
        self._time += 1
        return self._observation(), reward, self._time == self.steps, False, {}

    def _observation(self) -> Bits:
        script, observation = self.script, np.zeros(self.observation_space.shape, np.float32)
        if self._time < self.steps:
            seen, hidden = script.seen[self._time], int(script.hidden[self._time])
            observation[: len(seen)] = seen
            if self.shown and hidden != NONE:
                observation[len(seen) + hidden] = 1.0
        return observation


def one_hot(numbers: Any, size: int) -> Bits:
    """(n,) numbers to (n, size); a row of zeros for NONE."""
    bits: Bits = (np.asarray(numbers)[:, None] == np.arange(size)).astype(np.float32)
    return bits
