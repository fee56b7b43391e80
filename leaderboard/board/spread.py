"""How far seeds lie apart: what a board of single seeds must say beside each score."""

from dataclasses import replace
from statistics import fmean, variance

from backbench.leaderboard.board.board import Board, Section


def seed_spread(section: Section, published: Board) -> dict[str, float]:
    """Task -> standard deviation of a seed's normalised score within a row, pooled over the rows of ``published``.
    Only rows with the setting and the data of ``section`` and with two seeds count. Empty unless a row of ``section``
    has a single seed."""
    if all(len(score.seeds) > 1 for row in section.rows for score in row.scores.values()):
        return {}
    wanted = replace(section.setting, versions=())
    found: dict[str, list[float]] = {}
    for other in (one for one in published.sections if replace(one.setting, versions=()) == wanted):
        for task, setting in other.task_settings.items():
            mine = section.task_settings.get(task)
            if mine is not None and mine.data_sha256 == setting.data_sha256:
                scores = (row.scores[task].values for row in other.rows if task in row.scores)
                found.setdefault(task, []).extend(variance(values) for values in scores if len(values) > 1)
    return {task: fmean(variances) ** 0.5 for task, variances in found.items() if variances}
