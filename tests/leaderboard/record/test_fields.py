"""Absolute paths are cut from text before it is published."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbench.leaderboard.record.fields import without_paths


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no /home/joe/x.npz there", "no .../x.npz there"),
        ("'/home/joe'", "'...'"),
        ("a=/tmp", "a=.../tmp"),
        ("C:\\Users\\joe\\x.txt", ".../x.txt"),
        ("sqlite:////srv/m.db", ".../m.db"),
        *((same, same) for same in ("12 tokens/s, N/A, a / b", "https://host/~joe/page", "d4rl/hopper-v0", "</b>")),
    ],
)
def test_absolute_paths_are_cut_to_their_last_name(text: str, expected: str) -> None:
    assert without_paths(text) == expected


@given(st.text(alphabet="/~:.aC\\ '=<"))
def test_cutting_paths_twice_is_cutting_once(text: str) -> None:
    assert without_paths(without_paths(text)) == without_paths(text)
