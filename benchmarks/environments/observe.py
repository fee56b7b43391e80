"""Which part of a vector observation an agent sees: some of its numbers, and at some steps none of them.

Data and environments use the same filter. Whether step t of an episode is missing depends on the episode's seed and
on t alone: the seed draws one integer a step. So all backbones see the same gaps, on any processor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backbench.errors import require

if TYPE_CHECKING:
    from numpy.typing import NDArray

See = Callable[[Any], Any]  # the next observations of an episode (n, full) -> as they are seen (n, size)

# An episode of the data has the seed (DATA, its index in the set), one that is played (PLAYED, its environment's seed).
# They exceed every seed of a cell.
DATA, PLAYED = 2**32 + 1, 2**32 + 2
BITS = 53  # of a drawn integer

# Gymnasium's MuJoCo robots whose observation begins with its positions, and how many these are. The horizontal position
# is not among them. Versions 4 and 5 agree.
POSITIONS = {
    "Ant": 13, "HalfCheetah": 8, "Hopper": 5, "Humanoid": 22, "HumanoidStandup": 22, "InvertedPendulum": 2,
    "Swimmer": 3, "Walker2d": 8,
}  # fmt: skip
MOVING = {"exclude_current_positions_from_observation", "xml_file"}  # arguments that change the observation


@dataclass(frozen=True)
class Observe:
    """A filter of observations."""

    keep: tuple[int, ...] = ()  # indices of the numbers to keep, in this order; empty for all
    missing: float = 0.0  # share of steps whose observation is missing

    def __post_init__(self) -> None:
        require(len(set(self.keep)) == len(self.keep), "observe.keep: an index is there twice")
        require(min(self.keep, default=0) >= 0, "observe.keep: give indices from 0")
        require(0 <= self.missing < 1, f"observe.missing={self.missing}: give a share above 0 and below 1")

    def size(self, full: int, where: str) -> int:
        """Numbers in an observation of ``full``. UserError, which begins with ``where``, if it lacks one to keep."""
        last = max(self.keep, default=0)
        require(
            last < full,
            f"{where}: observe.keep has {last}, and an observation has {full} numbers: give 0 to {full - 1}",
        )
        return (len(self.keep) or full) + (self.missing > 0)

    def episode(self, salt: int, seed: int) -> See:
        """The filter of one episode: a function that takes its next n observations, (n, full) to (n, size).

        A missing observation is zeros. With ``missing``, a last number is 1 if the observation is there, else 0.
        """
        import numpy as np

        columns, limit = list(self.keep), np.uint64(round(self.missing * 2**BITS))
        bits = np.random.PCG64([salt, seed])

        def see(states: NDArray[Any]) -> NDArray[Any]:
            kept = np.take(states, columns, axis=1) if columns else states
            if not self.missing:
                return kept
            there = (bits.random_raw(len(kept)) >> np.uint64(64 - BITS) >= limit)[:, None]
            return np.concatenate([np.where(there, kept, 0), there], axis=1, dtype=kept.dtype)

        return see


def positions(env_id: str, arguments: Iterable[str]) -> tuple[int, ...]:
    """Indices of the positions in observations of ``env_id``, made with ``arguments``. Empty if they are not known."""
    name, _, version = env_id.partition("-v")
    known = version in ("4", "5") and not MOVING.intersection(arguments)
    return tuple(range(POSITIONS.get(name, 0))) if known else ()
