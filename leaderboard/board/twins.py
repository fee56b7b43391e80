"""What a row loses by having to remember: its scores on tasks, beside those on their twins, where nothing is hidden.

Observability gap: the score on the twin minus the score on the task. Memory bias: the score on the twin minus ``mlp``'s
there. Both are means over the tasks that all of them have (POPGym Arcade, arXiv:2503.01450).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from backbench.leaderboard.scores.statistics import Estimate, estimate

TWINS = {"memory": "memory-seen"}  # suite -> the suite of its twins, with tasks of the same names
Scores = Mapping[str, Mapping[int, float]]  # task -> seed -> normalised score


@dataclass(frozen=True)
class Twin:
    """A row beside its twin. Intervals are over the seeds that both sides have."""

    tasks: tuple[str, ...]
    gap: Estimate
    bias: Estimate | None  # None without a row of ``mlp`` that has the tasks

    @classmethod
    def of(cls, task: Scores, seen: Scores, mlp: Scores | None) -> "Twin | None":
        """None where no task is on both sides with a common seed."""
        tasks = tuple(name for name in task if set(task[name]) & set(seen.get(name, ())))
        if not tasks:
            return None
        known = mlp is not None and all(set(seen[name]) & set(mlp.get(name, ())) for name in tasks)
        bias = _difference(seen, mlp, tasks) if mlp is not None and known else None
        return cls(tasks, _difference(seen, task, tasks), bias)


def _difference(ours: Scores, theirs: Scores, tasks: tuple[str, ...]) -> Estimate:
    """Mean of ours minus theirs, over the seeds that all tasks have; without such seeds over all, as one."""
    common = sorted(set.intersection(*({*ours[task]} & {*theirs[task]} for task in tasks)))
    if common:
        return estimate([[ours[task][seed] - theirs[task][seed] for task in tasks] for seed in common])
    return estimate([[_mean(ours[task]) - _mean(theirs[task]) for task in tasks]])


def _mean(scores: Mapping[int, float]) -> float:
    return sum(scores.values()) / len(scores)
