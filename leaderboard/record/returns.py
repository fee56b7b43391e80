"""Which returns an episode can have, by the rules of its environment, and where a return is a success or a failure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from backbench.leaderboard.record.schema import Record

# Smallest and largest return of a complete Atari game, where the rules set one: 21 points end a game of Pong, and
# Breakout has two walls of 432 points.
GAMES = {"Pong": (-21.0, 21.0), "Breakout": (0.0, 864.0), "Qbert": (0.0, None), "Seaquest": (0.0, None)}
# Rewards here are velocities and have no strict bound. Each number is about three times the mean reward per step of the
# best published agents: anything beyond it is an error.
PER_STEP = {"Hopper": 12.0, "Walker2d": 20.0, "HalfCheetah": 50.0}
MEMORY = "backbench/"  # the memory tasks
ONE_ANSWER = ("backbench/TMaze",)  # those with one question an episode


def return_bounds(environment: str, conventions: Mapping[str, Any], length: int) -> tuple[float | None, float | None]:
    """(smallest, largest) raw return of an episode of ``length`` steps; None where no bound is known.
    ``environment``: an id such as ``gymnasium_robotics:AntMaze_UMaze-v4``; ``conventions``: its arguments."""
    kind = kind_of(environment)
    if environment.startswith("ALE/"):
        return GAMES.get(kind, (None, None))
    if environment.startswith(MEMORY):
        return 0.0, 1.0  # the share of right answers
    if kind in PER_STEP:
        return -PER_STEP[kind] * length, PER_STEP[kind] * length
    if kind.startswith("AntMaze") and conventions.get("continuing_task") is False and "Dense" not in kind:
        return 0.0, 1.0  # the episode ends with the first reward, which is 1
    if kind.startswith(("AntMaze", "PointMaze")):
        return 0.0, float(length)  # 1 at the goal, or exp(-distance)
    if kind == "FrankaKitchen":
        wanted = conventions.get("tasks_to_complete")
        count = float(len(wanted)) if isinstance(wanted, list) else 4.0
        return 0.0, count if conventions.get("remove_task_when_completed") is True else count * length
    return None, None


def kind_of(environment: str) -> str:
    """Name of an environment without its package and version, such as ``AntMaze_UMaze``."""
    return environment.rpartition(":")[2].removeprefix("ALE/").rpartition("-v")[0]


def are_shares(records: Iterable[Record]) -> bool:
    """Whether the returns of ``records`` of one task are rates: from 0 to 1, by the rules of the environment."""
    # Two steps: where each step may earn 1, the largest return is then 2.
    return all(return_bounds(one.identity.environment, one.protocol.environment, 2) == (0.0, 1.0) for one in records)


def are_successes(records: Sequence[Record]) -> bool:
    """Whether every episode of ``records`` of one task is a success (return 1) or a failure (0).
    The rules of the environment must say so too: ten returns of 0 and 1 may be luck."""
    return (
        are_shares(records)
        and all(
            one.identity.environment.startswith(ONE_ANSWER) or not one.identity.environment.startswith(MEMORY)
            for one in records
        )
        and all(value in (0.0, 1.0) for one in records for _, score in one.target_scores() for value in score.returns)
    )
