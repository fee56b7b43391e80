"""``bench data pull``: what it prints, what it refuses, and what names it when a set is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from replay_logs import agent, serving, write

from backbench.benchmarks.data import sources, store
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.sources import d4rl, dqn_replay, minari_atari, minari_hub, pull
from backbench.benchmarks.data.sources.dqn_select import Choice
from backbench.benchmarks.plan import suites

Bench = Callable[..., Any]
OPTIONS = ("--transitions", 40, "--seed", 3, "--run", 2, "--trajectories-per-buffer", 2, "--buffers", 1)
NAME = "dqn-replay/{}/1pct-40-seed3-run2-per2-last1-v0"


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Logs of two games; what Breakout's actions are, Pong's are too."""
    for game in ("Breakout", "Pong"):
        write(tmp_path / "logs" / game / "2" / "replay_logs", agent([8] * 20, 120, 49))
    return tmp_path / "logs"


def test_two_games(new_store: Path, logs: Path, bench: Bench) -> None:
    ran = bench("data", "pull", "dqn-replay", "pong", "breakout", "--from", logs, *OPTIONS)
    assert ran.code == 0, ran.err
    shown = [
        f"{NAME.format(g)}: 6 episodes, 48 steps, sha256 {store.read(NAME.format(g)).digest}"
        for g in ("pong", "breakout")
    ]
    assert ran.out.splitlines() == shown
    assert "pong: buffer 49 (1 of 1): 6 episodes, 66 transitions" in ran.err.splitlines()
    again = bench("data", "pull", "dqn-replay", "pong", "breakout", "--from", logs, *OPTIONS)
    assert (again.code, again.out) == (0, ran.out)
    assert f"{NAME.format('pong')} is in the store already; --force brings it anew" in again.err
    forced = bench("data", "pull", "dqn-replay", "pong", "--force", "--from", logs, *OPTIONS)
    assert forced.out.splitlines() == shown[:1]
    assert "already" not in forced.err


def test_over_http_and_refused(new_store: Path, logs: Path, bench: Bench) -> None:
    with serving(logs) as server:
        ran = bench("data", "pull", "dqn-replay", "breakout", "--from", server.url, *OPTIONS, NO_PROXY="*")
        assert ran.code == 0, ran.err
        server.faults = [403]
        refused = bench("data", "pull", "dqn-replay", "breakout", "--force", "--from", server.url, NO_PROXY="*")
    assert refused.code == 2
    assert refused.out == ""
    assert "bench data pull dqn-replay breakout --from FOLDER" in refused.err
    assert len(refused.err.splitlines()) == 1


def test_what_is_done_is_said_before_what_fails(new_store: Path, logs: Path, bench: Bench) -> None:
    ran = bench("data", "pull", "dqn-replay", "pong", "qbert", "--from", logs, *OPTIONS)
    assert ran.code == 2
    assert ran.out.startswith(f"{NAME.format('pong')}: 6 episodes")
    assert ran.err.splitlines()[-1].startswith("bench: no files of the DQN-replay logs")
    assert store.names() == [NAME.format("pong")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "data source 'nowhere' cannot be pulled; known: d4rl, dqn-replay, minari"),
        (["dqn-replay", "brakeout"], "no game 'brakeout'; did you mean 'breakout'"),
        (["dqn-replay", "pong", "--run", "9"], "run is 9; give from 1 to 5"),
        (["dqn-replay", "pong", "--from", "not-there"], "no files of the DQN-replay logs"),
        (["minari", "pong", "--seed", "1"], "source 'minari' has whole sets"),
        (["d4rl", "hopper-medium", "--run", "2"], "source 'd4rl' has whole sets"),
        (["minari", "pong", "--from", "x"], "set MINARI_REMOTE for another one"),
        (["minari", "hopper-exprt"], "did you mean 'hopper-expert'?"),
        (["d4rl", "hopper-simple"], "source 'd4rl' has no data set, task or suite 'hopper-simple'"),
    ],
)
def test_mistakes_are_one_line(new_store: Path, bench: Bench, words: list[str], said: str) -> None:
    ran = bench("data", "pull", *words)
    assert ran.code == 2
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1
    assert not new_store.exists()


def test_one_game_s_files_are_not_another_s(new_store: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "one", agent([8] * 20, 120, 49))
    with pytest.raises(DataError, match="holds the files of one game; name the game"):
        pull.pull("dqn-replay", [], Choice(), str(folder), False, False, print)


def test_no_game_means_all(new_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(dqn_replay, "pull", lambda *words: asked.append(words))
    names = list(pull.pull("dqn-replay", [], Choice(), "", False, False, print))
    assert [words[0] for words in asked] == ["breakout", "qbert", "pong", "seaquest"] == list(dqn_replay.GAMES)
    assert {words[2] for words in asked} == {dqn_replay.PUBLIC}
    assert names == [f"dqn-replay/{game}/1pct-v0" for game in dqn_replay.GAMES]


@pytest.mark.parametrize(
    ("source", "name", "ids"),
    [
        ("d4rl", "hopper-medium", ["d4rl/hopper/medium-v2"]),
        ("d4rl", "ant-full-replay", ["d4rl/ant/full-replay-v2"]),
        ("d4rl", "d4rl/hopper/random-v2", ["d4rl/hopper/random-v2"]),
        ("d4rl", "d4rl", suites.data_ids("d4rl", "d4rl")),
        ("minari", "hopper-medium", ["mujoco/hopper/medium-v0"]),
        ("minari", "pen-human", ["D4RL/pen/human-v2"]),
        ("minari", "D4RL/minigrid/fourrooms-v0", ["D4RL/minigrid/fourrooms-v0"]),
        ("minari", "pong", ["minari/pong/expert-v0"]),
        ("minari", "d4rl-kitchen", [f"D4RL/kitchen/{kind}-v2" for kind in ("complete", "partial", "mixed")]),
    ],
)
def test_what_a_name_stands_for(source: str, name: str, ids: list[str]) -> None:
    assert pull.named(source, name) == ids
    assert len(suites.data_ids("d4rl", "d4rl")) == 9


def test_each_set_goes_to_its_source(new_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(d4rl, "pull", lambda *words: asked.append(("d4rl", *words[:3])))
    monkeypatch.setattr(minari_atari, "pull", lambda *words: asked.append(("atari", words[0])))
    monkeypatch.setattr(minari_hub, "pull", lambda *words, **more: asked.append(("hub", words[0])))
    list(pull.pull("d4rl", ["hopper-medium", "hopper-medium"], Choice(), "here", True, False, print))
    list(pull.pull("minari", ["pong", "hopper-medium"], Choice(), "", False, False, print))
    assert asked == [
        ("d4rl", "d4rl/hopper/medium-v2", "here", True),
        ("atari", "pong"),
        ("hub", "mujoco/hopper/medium-v0"),
    ]
    assert [words[0] for words in pull.pull("d4rl", [], Choice(), "", False, False, print)] == ["d"] * 9


def resolved(suite: str, name: str, source: str) -> tuple[str, Any]:
    return source, suites.resolve(suite, name, source)


def test_a_plan_fetches_makes_or_says_how(new_store: Path) -> None:
    wanted = [
        resolved("d4rl", "hopper-medium", "d4rl"),
        resolved("d4rl", "hopper-medium", "minari"),
        resolved("d4rl", "hopper-medium", "embedded"),
        resolved("atari", "pong", "minari"),
        resolved("d4rl", "hopper-medium", "d4rl"),
    ]
    plan = sources.plan(wanted)
    assert plan.make == ("backbench/hopper/medium-v0",)
    assert plan.fetch == (
        ("d4rl", "d4rl/hopper/medium-v2"),
        ("minari", "mujoco/hopper/medium-v0"),
        ("minari", "minari/pong/expert-v0"),
    )
    with pytest.raises(DataError, match=r"get it: bench data pull dqn-replay seaquest --from FOLDER$"):
        sources.plan([*wanted, resolved("atari", "seaquest", "dqn-replay")])
    task = replace(suites.resolve("d4rl", "hopper-medium", "embedded"), data_id="me/mine-v0")
    with pytest.raises(DataError, match=r"'me/mine-v0' is not in the store .* put the set there"):
        sources.plan([("local", task)])


def test_help_is_quick(bench: Bench) -> None:
    ran = bench("data", "pull", "--help", timeout=10)
    assert ran.code == 0
    for option in ("--from", "--transitions", "--seed", "--run", "--trajectories", "--buffers", "--keep", "--force"):
        assert option in ran.out
