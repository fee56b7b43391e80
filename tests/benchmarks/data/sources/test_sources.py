"""Sources: each knows its data sets, and what tasks lack is made, fetched or explained."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from backbench.benchmarks.data import sources, store
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.sources import SOURCES, source_of
from backbench.benchmarks.plan import suites
from backbench.errors import UserError


def resolved(suite: str, name: str, source: str) -> tuple[str, str]:
    return source, suites.resolve(suite, name, source).data_id


def test_every_source_is_registered_under_its_name() -> None:
    assert {name: source.name for name, source in SOURCES.all().items()} == {name: name for name in SOURCES.names()}
    assert set(suites.table("d4rl").tasks["hopper-medium"].sources) <= set(SOURCES.names())
    with pytest.raises(UserError, match="unknown data source 'd4lr'; did you mean 'd4rl'"):
        SOURCES.get("d4lr")


def test_the_names_are_known_without_numpy() -> None:
    code = (
        "import sys; from backbench.benchmarks.data.sources import SOURCES; print(len(SOURCES.names()), "
        "*{'numpy', 'gymnasium', 'minari', 'torch', 'h5py'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["5"]


@pytest.mark.parametrize("source", ["embedded", "d4rl", "dqn-replay"])
def test_a_source_owns_its_ids_and_says_how_to_get_them(source: str) -> None:
    known = SOURCES.get(source)
    assert known.ids()
    for data_id in known.ids():
        assert source_of(data_id) is known
        assert known.command(data_id).startswith("bench data ")
        assert store.remedy(data_id) == f"get it again: {known.command(data_id)} --force"


@pytest.mark.parametrize(
    ("data_id", "source", "said"),
    [
        ("backbench/hopper/medium-v1", "embedded", "bench data make backbench/hopper/medium-v1 --force"),
        ("d4rl/hopper/medium-replay-v2", "d4rl", "bench data pull d4rl hopper-medium-replay --force"),
        ("D4RL/door/human-v2", "minari", "bench data pull minari D4RL/door/human-v2 --force"),
        ("minari/pong/expert-v0", "minari", "bench data pull minari pong --force"),
        ("dqn-replay/qbert/1pct-v0", "dqn-replay", "bench data pull dqn-replay qbert --from FOLDER --force"),
        ("me/mine-v0", "local", "put it there, in Minari's format"),
    ],
)
def test_an_id_tells_its_source_and_remedy(data_id: str, source: str, said: str) -> None:
    assert source_of(data_id).name == source
    assert store.remedy(data_id).endswith(said)


def test_a_plan_fetches_makes_or_says_how(new_store: Path) -> None:
    wanted = [
        resolved("d4rl", "hopper-medium", "d4rl"),
        resolved("d4rl", "hopper-medium", "minari"),
        resolved("d4rl", "hopper-medium", "embedded"),
        resolved("atari", "pong", "minari"),
        resolved("d4rl", "hopper-medium", "d4rl"),
    ]
    plan = sources.plan(wanted)
    assert plan.make == ("backbench/hopper/medium-v1",)
    assert plan.fetch == (
        ("d4rl", "d4rl/hopper/medium-v2"),
        ("minari", "mujoco/hopper/medium-v0"),
        ("minari", "minari/pong/expert-v0"),
    )
    with pytest.raises(DataError, match=r"get it: bench data pull dqn-replay seaquest --from FOLDER$"):
        sources.plan([*wanted, resolved("atari", "seaquest", "dqn-replay")])
    with pytest.raises(DataError, match=r"'me/mine-v0' is not in the store .* put the set there"):
        sources.plan([("local", "me/mine-v0")])
    with pytest.raises(DataError, match=r"data set 'me/mine-v0' cannot be made"):
        sources.plan([("embedded", "me/mine-v0")])


@pytest.mark.parametrize("source", ["d4rl", "local"])
def test_a_source_that_cannot_make_or_fetch_says_so(new_store: Path, source: str) -> None:
    with pytest.raises(DataError, match="cannot make data sets"):
        SOURCES.get(source).make("me/mine-v0")
    if source == "local":
        with pytest.raises(DataError, match="cannot be pulled"):
            SOURCES.get(source).fetch("me/mine-v0", sources.Pull())


def test_processes_that_need_a_data_set_at_once_make_it_once(new_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells that start together on a node without it."""
    from backbench.benchmarks.data import store

    made = list[str]()

    def make(names: Sequence[str], jobs: int, report: Callable[[str], None]) -> None:
        made.extend(names)
        time.sleep(0.05)
        (new_store / names[0] / "data").mkdir(parents=True)
        (new_store / names[0] / "data" / "main_data.hdf5").touch()

    there = "backbench/hopper/medium-2000-v1"
    monkeypatch.setattr(sources, "make_all", make)
    monkeypatch.setattr(store, "exists", lambda name: (new_store / name).is_dir())
    threads = [
        threading.Thread(target=sources.bring, args=("embedded", there, lambda _: None), daemon=True) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert made == [there]
