from __future__ import annotations

import pytest

from backbench.leaderboard.scores.normalise import CITATIONS, DT_GAMER, atari_bounds, d4rl_bounds, normalise


@pytest.mark.parametrize(
    ("environment", "low", "high"),
    [("halfcheetah", -280.178953, 12135.0), ("hopper", -20.272305, 3234.3), ("walker2d", 1.629008, 4592.3)],
)
def test_d4rl_scores_match_published_figures(environment: str, low: float, high: float) -> None:
    assert d4rl_bounds(environment) == (low, high)
    assert normalise("d4rl", environment, low) == 0.0
    assert normalise("d4rl", environment, high) == 100.0
    assert normalise("d4rl", environment, (low + high) / 2) == pytest.approx(50.0)
    assert normalise("d4rl", f"{environment}-medium-replay", high) == 100.0


@pytest.mark.parametrize(
    ("task", "low", "high"),
    [  # the reference code's infos.py
        ("pen-human", 96.262799, 3076.8331017826877),
        ("door-expert", -56.512833, 2880.5693087298737),
        ("hammer-cloned", -274.856578, 12794.134825156867),
        ("relocate-human", -6.425911, 4233.877797728884),
        ("antmaze-umaze", 0.0, 1.0),
        ("antmaze-large-diverse", 0.0, 1.0),
        ("kitchen-mixed", 0.0, 4.0),
        ("pointmaze-umaze", 23.85, 161.86),
        ("pointmaze-large-dense", 30.569041, 303.4857382709002),
        ("pointmaze-open", 0.01, 20.66),
        ("ant-medium", -325.6, 3879.7),
        ("hopper-simple", -20.272305, 3234.3),  # a quality that D4RL does not have: the environment's figures
    ],
)
def test_bounds_of_other_d4rl_tasks_are_those_of_the_table(task: str, low: float, high: float) -> None:
    assert d4rl_bounds(task) == (low, high)
    assert normalise("d4rl", task, high) == pytest.approx(100.0)


def test_tasks_without_figures_are_refused() -> None:
    """Each maze has figures of its own; another maze has none."""
    for task in ("maze2d-tiny", "pointmaze-tiny", "maze2d"):
        with pytest.raises(KeyError, match="no D4RL reference scores"):
            d4rl_bounds(task)
    assert d4rl_bounds("antmaze-tiny") == (0.0, 1.0)


def test_declared_returns_score_0_and_100() -> None:
    assert normalise("declared", "pendulum", -100.0, (-1000.0, -100.0)) == 100.0
    assert normalise("declared", "pendulum", -550.0, (-1000.0, -100.0)) == 50.0
    for reference in (None, (), (5.0, 5.0)):
        with pytest.raises(KeyError, match="two different returns for 'pendulum'"):
            normalise("declared", "pendulum", 1.0, reference)


def test_unknown_normalisers_and_games_are_refused() -> None:
    assert normalise("none", "anything", 7.5) == 7.5
    with pytest.raises(KeyError, match="no normaliser 'gamer'"):
        normalise("gamer", "breakout", 1.0)
    with pytest.raises(KeyError, match="breakout"):
        normalise("d4rl", "breakout", 1.0)


@pytest.mark.parametrize(
    ("game", "raw", "published"),
    # Decision Transformer, mean of three seeds: raw (table of its appendix) and gamer-normalised (main table).
    [("breakout", 76.9, 267.5), ("qbert", 2215.8, 15.4), ("pong", 17.1, 106.1), ("seaquest", 1129.3, 2.5)],
)
def test_gamer_normalised_is_what_was_published(game: str, raw: float, published: float) -> None:
    assert normalise("dt-gamer", game, raw) == pytest.approx(published, abs=0.4)


def test_the_atari_table_has_57_games() -> None:
    assert atari_bounds("pong") == (-20.7, 14.6)
    assert normalise("atari-human", "breakout", 30.5) == 100.0
    assert normalise("atari-human", "seaquest", 68.4) == 0.0
    assert normalise("atari-human", "qbert", (163.9 + 13455.0) / 2) == pytest.approx(50.0)
    for game, (low, high) in DT_GAMER.items():  # rounded from the same table
        assert (low, high) == pytest.approx(atari_bounds(game), abs=0.51)
    with pytest.raises(KeyError, match="'doom'"):
        normalise("atari-human", "doom", 1.0)
    with pytest.raises(KeyError, match="'alien'"):
        normalise("dt-gamer", "alien", 1.0)
    assert set(CITATIONS) == {"d4rl", "atari-human", "dt-gamer", "declared", "none"}
