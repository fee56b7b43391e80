"""The choice of episodes: the published rule, without the bugs of the published code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_logs import Buffer, agent, expected_visits

from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.sources.dqn_select import Choice, Log, Span, Visit, select


def log(terminals: str, buffer: int = 49, actions: Any = None, rewards: Any = None) -> Log:
    """A log by its terminals: ``"..x"`` is an episode of three steps. Nothing in it looks like padding."""
    n = len(terminals)
    actions = np.ones(n, np.int32) if actions is None else np.array(actions, np.int32)
    rewards = np.zeros(n, np.float32) if rewards is None else np.array(rewards, np.float32)
    return Log(buffer, actions, rewards, np.array([c == "x" for c in terminals]), n)


def chosen(choice: Choice, logs: list[Log]) -> list[Visit]:
    return select(choice, {entry.buffer: entry for entry in logs}.__getitem__)[0]


@pytest.mark.parametrize(
    ("terminals", "buffer", "episodes"),
    [
        ("..x.x...x..", 49, [(3, 5), (5, 9)]),  # what is before the first terminal has no begin
        ("..x.x...x..", 0, [(0, 3), (3, 5), (5, 9)]),  # but in a run's first buffer it has
        ("x..x", 49, [(1, 4)]),
        ("xx", 49, [(1, 2)]),
        ("....x", 49, []),
        (".....", 0, []),
        ("....x", 0, [(0, 5)]),
    ],
)
def test_only_complete_episodes_count(terminals: str, buffer: int, episodes: list[Span]) -> None:
    assert log(terminals, buffer).episodes == episodes


def test_a_visit_takes_as_many_as_it_should() -> None:
    """The published code takes one more."""
    visits = chosen(Choice(1, trajectories_per_buffer=10, buffers=1), [log("x" + "..x" * 30)])
    assert visits == [Visit(49, tuple((1 + 3 * i, 4 + 3 * i) for i in range(10)))]


def test_a_visit_that_reaches_the_end_takes_nothing() -> None:
    """The published code drops its transitions and keeps its ends, so that returns-to-go cross episodes."""
    short, long = log("x..x..x..", 48), log("x" + ".x" * 20, 49)
    for seed in range(20):
        visits = chosen(Choice(40, seed, trajectories_per_buffer=5, buffers=2), [short, long])
        assert [v.buffer for v in visits] == [49] * 4
        assert [e for v in visits for e in v.episodes] == [(1 + 2 * i, 3 + 2 * i) for i in range(20)]


def test_a_second_visit_continues_the_first() -> None:
    visits = chosen(Choice(12, trajectories_per_buffer=2, buffers=1), [log("x" + "..x" * 5)])
    assert visits == [Visit(49, ((1, 4), (4, 7))), Visit(49, ((7, 10), (10, 13)))]


def test_visits_end_with_enough_transitions() -> None:
    logs = [log("x" + ".x" * 50)]
    for transitions, visits in ((1, 1), (20, 1), (21, 2), (100, 5)):
        assert len(chosen(Choice(transitions, buffers=1), logs)) == visits
    with pytest.raises(DataError, match=r"give 100 transitions .* 101 were requested; give fewer --transitions"):
        chosen(Choice(101, buffers=1), logs)


def test_padding_is_no_transition() -> None:
    rows = agent([6] * 40, 300, 49)[0].log()
    assert [stop - start for start, stop in rows.episodes] == [9] * 32
    assert len(chosen(Choice(60, buffers=1), [rows])) == 1
    assert len(chosen(Choice(61, buffers=1), [rows])) == 2


@pytest.mark.parametrize("row", [(1, 0.0, False), (0, 1.0, False), (0, 0.0, True)])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_other_entries_are_no_padding(row: tuple[int, float, bool], place: int) -> None:
    actions, rewards, terminals = np.zeros(5, np.int32), np.zeros(5, np.float32), np.zeros(5, bool)
    assert Log(0, actions, rewards, terminals, 5).may_be_padded(0)
    actions[place], rewards[place], terminals[place] = row
    assert not Log(0, actions, rewards, terminals, 5).may_be_padded(0)


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 25), min_size=40, max_size=120),
    size=st.integers(40, 90),
    padding=st.sampled_from([0, 3]),
    transitions=st.integers(1, 300),
    per=st.integers(1, 4),
    seed=st.integers(0, 1000),
    first=st.sampled_from([0, 40]),
)
def test_the_choice_equals_a_plain_loop(
    lengths: list[int], size: int, padding: int, transitions: int, per: int, seed: int, first: int
) -> None:
    choice = Choice(transitions, seed, trajectories_per_buffer=per, buffers=50 if first == 0 else 10)
    made = {b.number: b for b in small(lengths, size, padding, first)}
    logs = {n: made[n].log() if n in made else log(".....", n) for n in range(50)}
    buffers = [made.get(n) or Buffer(n, plain(logs[n])) for n in range(50)]
    asked: list[int] = []

    def load(number: int) -> Log:
        asked.append(number)
        return logs[number]

    try:
        visits, used = select(choice, load)
    except DataError:
        with pytest.raises(ValueError):  # nothing left to draw from
            expected_visits(buffers, choice)
        return
    assert [(v.buffer, list(v.episodes)) for v in visits] == expected_visits(buffers, choice)
    assert sorted(used) == sorted(asked) == sorted(set(asked)), "a log is loaded once"
    assert select(choice, logs.__getitem__)[0] == visits, "another call, another choice"
    assert all(len(v.episodes) == per for v in visits)
    seen: set[tuple[int, int]] = set()
    for visit in visits:
        ends = logs[visit.buffer].terminals
        for start, stop in visit.episodes:
            assert ends[start:stop].tolist() == [False] * (stop - start - 1) + [True]
            assert ends[start - 1] if start else visit.buffer == 0
            entries = {(visit.buffer, i) for i in range(start, stop)}
            assert not seen & entries, "an entry is taken twice"
            seen |= entries


def small(lengths: list[int], size: int, padding: int, first: int) -> list[Buffer]:
    """As ``agent`` leaves them, but without pictures, which take their time."""
    rows: list[tuple[int, float, int]] = []
    for length in lengths:
        rows += [(0, 0.0, 0)] * padding
        rows += [((len(rows) + i) % 3, float((len(rows) + i) % 2), int(i == length - 1)) for i in range(length)]
    buffers = []
    for number, begin in enumerate(range(0, len(rows) - size + 1, size), first):
        if number < 50:
            action, reward, terminal = (np.array(c) for c in zip(*rows[begin : begin + size], strict=True))
            buffers.append(Buffer(number, {"action": action, "reward": reward, "terminal": terminal}))
    return buffers


def plain(entry: Log) -> dict[str, Any]:
    return {"action": entry.actions, "reward": entry.rewards, "terminal": entry.terminals}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"transitions": 0}, "transitions is 0; give 1 or more"),
        ({"seed": -1}, "seed is -1; give 0 or more"),
        ({"run": 6}, "run is 6; give from 1 to 5"),
        ({"trajectories_per_buffer": 0}, "trajectories_per_buffer is 0; give 1 or more"),
        ({"buffers": 51}, "buffers is 51; give from 1 to 50"),
    ],
)
def test_an_impossible_choice_is_refused(changes: dict[str, int], said: str) -> None:
    with pytest.raises(DataError, match=said):
        Choice(**changes)


def test_every_choice_has_a_name_of_its_own() -> None:
    assert Choice().data_id("pong") == "dqn-replay/pong/1pct-v0"
    assert Choice(20_000).data_id("breakout") == "dqn-replay/breakout/1pct-20000-v0"
    everything = Choice(7, 3, 2, 5, 10).data_id("qbert")
    assert everything == "dqn-replay/qbert/1pct-7-seed3-run2-per5-last10-v0"
