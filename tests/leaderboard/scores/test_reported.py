"""The table of published scores."""

from __future__ import annotations

from backbench.leaderboard.record.suites import SUITES
from backbench.leaderboard.scores.reported import METHODS, published


def test_published_scores_have_a_citation_and_a_known_task() -> None:
    found = published()
    assert len(found) == 158
    dt = {one.task: one for one in found if one.method == "DT"}
    assert (dt["hopper-medium"].score, dt["hopper-medium"].std, dt["hopper-medium"].unit) == (
        67.6,
        1.0,
        "d4rl_normalized",
    )
    assert (dt["breakout"].score, dt["breakout"].citation) == (267.5, "DT (arXiv:2106.01345)")
    assert next(one for one in found if one.method == "CQL").std is None
    assert {one.task for one in found} <= set(SUITES["d4rl"]) | set(SUITES["atari"])
    assert len({(one.method, one.task) for one in found}) == len(found)
    assert set(METHODS.values()) <= {one.method for one in found}
    assert all(one.citation for one in found)
