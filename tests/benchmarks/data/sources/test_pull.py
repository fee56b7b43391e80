"""``bench data pull``: what it prints, what it refuses, and which sets its names stand for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from replay_logs import agent, serving, write

from backbench.benchmarks.cli.data import _of_suites
from backbench.benchmarks.data import store
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.sources import SOURCES, Pull, pull
from backbench.benchmarks.data.sources.dqn_replay import GAMES
from backbench.benchmarks.data.sources.dqn_select import Choice
from backbench.benchmarks.data.sources.minari import atari, hub
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


def test_each_game_is_pulled_once(new_store: Path, logs: Path, bench: Bench) -> None:
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
    assert f"{NAME.format('pong')} is in the store already; --force replaces it" in again.err
    forced = bench("data", "pull", "dqn-replay", "pong", "--force", "--from", logs, *OPTIONS)
    assert forced.out.splitlines() == shown[:1]
    assert "already" not in forced.err


def test_a_server_is_used_and_its_refusal_is_one_line(new_store: Path, logs: Path, bench: Bench) -> None:
    with serving(logs) as server:
        ran = bench("data", "pull", "dqn-replay", "breakout", "--from", server.url, *OPTIONS, NO_PROXY="*")
        assert ran.code == 0, ran.err
        server.faults = [403]
        refused = bench("data", "pull", "dqn-replay", "breakout", "--force", "--from", server.url, NO_PROXY="*")
    assert refused.code == 2
    assert refused.out == ""
    assert "bench data pull dqn-replay breakout --from FOLDER" in refused.err
    assert len(refused.err.splitlines()) == 1


def test_sets_before_a_failure_are_kept_and_printed(new_store: Path, logs: Path, bench: Bench) -> None:
    ran = bench("data", "pull", "dqn-replay", "pong", "qbert", "--from", logs, *OPTIONS)
    assert ran.code == 2
    assert ran.out.startswith(f"{NAME.format('pong')}: 6 episodes")
    assert ran.err.splitlines()[-1].startswith("bench: no files of the DQN-replay logs")
    assert store.names() == [NAME.format("pong")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "data source 'nowhere' cannot be pulled; known: d4rl, minari, dqn-replay"),
        (["dqn-replay", "brakeout"], "no game 'brakeout'; did you mean 'breakout'"),
        (["dqn-replay", "pong", "--run", "9"], "run is 9; give from 1 to 5"),
        (["dqn-replay", "pong", "--from", "not-there"], "no files of the DQN-replay logs"),
        (["minari", "pong", "--seed", "1"], "source 'minari' has complete data sets"),
        (["d4rl", "hopper-medium", "--run", "2"], "source 'd4rl' has complete data sets"),
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


def names_of(source: str, *names: str) -> dict[str, list[str]]:
    """What the command says about suites and tasks."""
    return _of_suites(list(names), source)


def test_files_of_one_game_are_not_used_for_another(new_store: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "one", agent([8] * 20, 120, 49))
    with pytest.raises(DataError, match="holds the files of one game; name the game"):
        pull("dqn-replay", [], Pull(str(folder)), {})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Grows by (source, id, location, keep) instead of fetching."""
    calls: list[Any] = []
    for source in SOURCES.all().values():

        def fetch(data_id: str, how: Pull, name: str = source.name) -> None:
            calls.append((name, data_id, how.location, how.keep))

        monkeypatch.setattr(source, "fetch", fetch)
    return calls


def test_without_names_the_default_is_pulled(new_store: Path, asked: list[Any]) -> None:
    ids = [f"dqn-replay/{game}/1pct-v0" for game in GAMES]
    assert list(pull("dqn-replay", [], Pull(), names_of("dqn-replay"))) == ids
    assert asked == [("dqn-replay", id_, "", False) for id_ in ids]
    assert list(pull("d4rl", [], Pull(), names_of("d4rl"))) == suites.data_ids("d4rl", "d4rl")
    with pytest.raises(DataError, match="source 'minari' has many data sets; name some"):
        pull("minari", [], Pull(), {})


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
        ("dqn-replay", "pong", ["dqn-replay/pong/1pct-v0"]),
    ],
)
def test_a_name_stands_for_ids(new_store: Path, asked: list[Any], source: str, name: str, ids: list[str]) -> None:
    assert list(pull(source, [name, name], Pull("here" if source == "d4rl" else ""), names_of(source, name))) == ids
    assert [call[1] for call in asked] == ids
    assert len(suites.data_ids("d4rl", "d4rl")) == 9


def test_a_choice_from_the_logs_changes_the_id(new_store: Path, asked: list[Any]) -> None:
    how = Pull(choice=Choice(transitions=40, seed=3))
    assert list(pull("dqn-replay", ["pong"], how, names_of("dqn-replay"))) == ["dqn-replay/pong/1pct-40-seed3-v0"]


def test_minari_converts_its_atari_sets_and_downloads_the_others(
    new_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(atari, "convert", lambda *words: asked.append(("convert", words[0])))
    monkeypatch.setattr(hub, "pull", lambda *words: asked.append(("download", words[0])))
    list(pull("minari", ["pong", "hopper-medium"], Pull(), names_of("minari")))
    assert asked == [("convert", "pong"), ("download", "mujoco/hopper/medium-v0")]


def test_help_is_quick(bench: Bench) -> None:
    ran = bench("data", "pull", "--help", timeout=10)
    assert ran.code == 0
    for option in ("--from", "--transitions", "--seed", "--run", "--trajectories", "--buffers", "--keep", "--force"):
        assert option in ran.out
