"""Generated data: the policies are complete, and the same call makes the same bytes anywhere."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backbench.benchmarks.data import sources, store
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.policies import gaussian
from backbench.benchmarks.data.policies.exact import on_grid
from backbench.benchmarks.data.policies.gaussian import GaussianPolicy
from backbench.benchmarks.data.sources import embedded, embedded_memory
from backbench.benchmarks.environments.atari.protocol import GAMES
from backbench.benchmarks.plan import suites

PACKED = sorted(embedded.SEEDS)  # games have policies of another kind, and tests of their own
SNAPSHOTS = sorted({snapshot for mixture in embedded.MIXTURES.values() for snapshot in mixture})


def test_every_environment_is_packed() -> None:
    assert {*PACKED, *GAMES} == set(gaussian.manifest())


@pytest.mark.parametrize("environment", PACKED)
def test_the_pack_is_complete(environment: str) -> None:
    card = gaussian.manifest()[environment]
    assert environment in embedded.SEEDS
    assert set(SNAPSHOTS) <= set(card["snapshots"])
    for snapshot in SNAPSHOTS:
        assert {"noise", "return_mean", "score", "steps"} <= set(card["snapshots"][snapshot])
        policy = gaussian.load(environment, snapshot)
        assert all(np.isfinite(a).all() for a in policy.arrays.values())
    with np.load(gaussian.PACK / f"{environment}.npz", allow_pickle=False) as pack:
        assert {pack[name].dtype for name in pack.files} == {np.dtype(np.float16)}
        assert {name.split("/")[0] for name in pack.files} == set(card["snapshots"])


def test_the_pack_is_small_and_has_no_strays() -> None:
    files = list(gaussian.PACK.iterdir())
    assert sum(p.stat().st_size for p in files) < 3_500_000
    assert {p.name for p in files} == {"manifest.json", *(f"{environment}.npz" for environment in (*PACKED, *GAMES))}


@pytest.mark.parametrize("environment", PACKED)
def test_policies_play_as_the_manifest_says(environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three episodes of the expert and of the first snapshot are near what was measured when they were packed."""
    monkeypatch.setattr(embedded, "SLOTS", 3)
    card = gaussian.manifest()[environment]
    for snapshot, steps in (("replay0", 1), ("expert", 1)):
        noted = card["snapshots"][snapshot]
        played = embedded.play(
            card["env_id"], gaussian.load(environment, snapshot), noted["noise"], steps, 1000, seed=77
        )
        mean = np.mean([e.rewards.sum() for e in played])
        assert abs(mean - noted["return_mean"]) < 4 * noted["return_std"] + 0.1 * abs(noted["return_mean"])


def test_a_missing_snapshot_is_named() -> None:
    with pytest.raises(KeyError, match="'replay9'"):
        gaussian.load("hopper", "replay9")


OBSERVATIONS = np.array([[1.0, -2.0], [3.0, 0.5]])
HIDDEN = {
    "obs_mean": np.array([1.0, 0.0]),
    "obs_scale": np.array([0.5, 2.0]),  # observations: (0, -4), (1, 1)
    "w0": np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.5]]),
    "b0": np.array([0.0, 1.0, 0.0]),  # before the activation: (0, -3, -2), (1, 2, 1.5)
    "mean_w": np.array([[1.0], [0.5], [-1.0]]),
    "mean_b": np.array([0.25]),
}


def test_a_squashed_policy_equals_its_formula() -> None:
    """SAC: ReLU, spread from the state, tanh of the draw."""
    arrays = HIDDEN | {"std_w": np.array([[0.0], [0.0], [-1.0]]), "std_b": np.array([0.5])}
    policy = GaussianPolicy.from_arrays(arrays)
    assert policy.squash
    mean = np.array([[0.25], [1 + 1 - 1.5 + 0.25]])
    np.testing.assert_array_equal(policy.act(OBSERVATIONS), on_grid(np.tanh(mean)))
    eps = np.random.default_rng(0).standard_normal((2, 1))
    spread = np.exp(np.array([[0.5], [-1.0]]))
    drawn = policy.act(OBSERVATIONS, np.random.default_rng(0), noise=0.5)
    np.testing.assert_array_equal(drawn, on_grid(np.tanh(mean + 0.5 * spread * eps)))
    assert drawn.dtype == np.float32


def test_a_clipped_policy_equals_its_formula() -> None:
    """PPO: tanh units, one spread for all states, clipped to the range."""
    policy = GaussianPolicy.from_arrays(HIDDEN | {"log_std": np.array([np.log(3.0)])})
    assert not policy.squash
    h = np.tanh([[0.0, -3.0, -2.0], [1.0, 2.0, 1.5]])
    mean = h @ [[1.0], [0.5], [-1.0]] + 0.25
    np.testing.assert_array_equal(policy.act(OBSERVATIONS), on_grid(np.clip(mean, -1, 1)))
    many = np.repeat(OBSERVATIONS, 500, axis=0)
    drawn = policy.act(many, np.random.default_rng(0))
    assert drawn.min() == -1
    assert drawn.max() == 1
    inside = np.abs(drawn) < 1
    assert 0.1 < inside.mean() < 0.5


def test_observations_are_clipped_and_spread_is_bounded() -> None:
    arrays = HIDDEN | {"std_w": np.zeros((3, 1)), "std_b": np.array([100.0])}
    policy = GaussianPolicy.from_arrays(arrays)
    far, edge = np.array([[1e9, -1e9]]), np.array([[21.0, -5.0]])
    np.testing.assert_array_equal(policy.act(far), policy.act(edge))
    assert np.isfinite(policy.act(far, np.random.default_rng(0))).all()


@pytest.mark.parametrize(
    "name",
    [
        "backbench/hoper/medium-v1",
        "backbench/hopper/mediun-v1",
        "backbench/hopper/medium-v0",  # of an earlier version of the policies' arithmetic
        "backbench/hopper/medium",
        "hopper/medium-v0",
        "backbench/hopper/medium--5-v1",
        "backbench/hopper/medium-x-v1",
        "backbench/hopper/medium-v1/",
        "../backbench/hopper/medium-v1",
        "",
    ],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="cannot be made") as caught:
        embedded.parse(name)
    assert "backbench/hopper/medium-v1" in str(caught.value)


def test_every_id_can_be_made_in_every_size() -> None:
    policies = [name for name in embedded.SOURCE.ids() if not embedded_memory.is_one(name)]
    assert len(policies) == 13
    for name in policies:
        assert embedded.parse(name).id == name
        assert embedded.parse(name).steps == (100_000 if "replay-v" in name and "medium" not in name else 50_000)
        assert embedded.SOURCE.sized(name, embedded.parse(name).steps) == name
        small = embedded.SOURCE.sized(name, 2000)
        parsed = embedded.parse(small)
        assert (parsed.steps, parsed.mixture) == (2000, embedded.parse(name).mixture)
    made = [id_ for suite in suites.built_in() for id_ in suites.data_ids(suite, "embedded")]
    assert sorted(set(made)) == sorted(embedded.SOURCE.ids())


def test_a_small_set_has_complete_episodes(hopper_store: Path) -> None:
    """Whole episodes of the environment, at least as many steps as asked for, actions in range."""
    data = store.read("backbench/hopper/medium-2000-v1")
    assert 2000 <= len(data.rewards) < 2000 + embedded.SLOTS * 1000
    assert data.lengths.max() <= 1000
    assert np.abs(data.actions).max() <= 1
    assert data.states.shape[1] == 11
    assert data.actions.shape[1] == 3
    timeouts = ~data.terminated
    assert (data.lengths[timeouts] == 1000).all()


def test_every_started_episode_is_finished() -> None:
    """Few steps are asked for, and yet the long episodes that they began are there in full length."""
    card = gaussian.manifest()["hopper"]
    played = embedded.play(card["env_id"], gaussian.load("hopper", "medium"), 1.0, 30, 60, seed=5)
    assert len(played) == embedded.SLOTS
    assert all(e.terminated or len(e.rewards) == 60 for e in played)
    assert len({e.seed for e in played}) == len(played)


MAKE = """
import sys
from backbench.benchmarks.data.sources import {module}
{call}
assert "torch" not in sys.modules, "making data needs no torch"
"""


def test_two_processes_make_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: Callable[..., Any]
) -> None:
    name = "backbench/walker2d/medium-100-v1"
    first = bench("data", "make", name, MINARI_DATASETS_PATH=str(tmp_path / "a"), OMP_NUM_THREADS="2")
    assert first.code == 0, first.err
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "b"))
    code = MAKE.format(module="embedded", call=f"embedded.make({name!r})")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    # flat.bin is a copy that the first reading leaves; it knows the times of the files that it was made from.
    files, others = (
        sorted(p.relative_to(store_) for p in store_.rglob("*") if p.is_file() and p.name != "flat.bin")
        for store_ in (tmp_path / "a", tmp_path / "b")
    )
    assert files == others
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    assert len(files) == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"], "a stray file in the working folder"


def test_a_set_with_another_content_than_the_table_has_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(embedded.known()) == set(embedded.SOURCE.ids())
    name = "backbench/hopper/medium-v1"
    assert embedded.unlike_known(name, embedded.known()[name]["sha256"]) == ""
    assert embedded.unlike_known("backbench/hopper/medium-2000-v1", "0" * 64) == "", "only usual sizes are listed"
    said = embedded.unlike_known(name, "0" * 64)
    assert said.startswith(f"data set {name}: made with sha256 00000000, and everywhere else it is bf9aadd8;")
    assert said.endswith("please report it, with the output of bench doctor")
    monkeypatch.setattr(embedded, "version", {"mujoco": "3.3.0", "gymnasium": "1.4.0"}.get)
    assert "pip install mujoco==4.0.0, then" in embedded.unlike_known(name, "0" * 64)


def test_what_is_said_about_a_set_is_printed_once_it_is_made(
    new_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The workers are other processes: the table must be read there."""
    name = "backbench/hopper/medium-30-v1"
    table = tmp = new_store / "table.csv"
    tmp.parent.mkdir(parents=True, exist_ok=True)
    table.write_text(f"id,sha256,packages\n{name},{'0' * 64},mujoco=0.0\n")
    monkeypatch.setattr(embedded, "HASHES", table)
    note = embedded.SOURCE.make(name)
    assert "pip install mujoco==0.0" in note
    monkeypatch.setattr(sources, "_make", partial(_made, note))
    sources.make_all([name], 1, lambda _: None)
    assert capsys.readouterr().err == f"{note}\n"


def _made(note: str, name: str) -> tuple[str, str]:
    return "", note


@pytest.mark.slow  # plays all nine data sets at full size
@pytest.mark.parametrize("task", suites.names("d4rl"))
def test_declared_targets_follow_from_the_data(task: str, new_store: Path) -> None:
    """Headline: the 95th percentile over steps of the episode's return, in hundreds; then its half."""
    declared = suites.resolve("d4rl", task, "embedded")
    data = embedded.make(declared.data_id)
    assert data.digest == embedded.known()[declared.data_id]["sha256"]
    headline = float(np.round(np.quantile(np.repeat(data.returns, data.lengths), 0.95), -2))
    assert declared.targets == (headline, headline / 2)


@pytest.mark.slow  # plays all four sets of games at full size
@pytest.mark.parametrize("task", suites.names("atari"))
def test_declared_targets_of_games_follow_from_the_data(task: str, new_store: Path) -> None:
    """Headline: the 95th percentile over steps of the episode's return, on each scale; then its half."""
    data = embedded.make(suites.resolve("atari", task, "embedded").data_id)
    assert data.digest == embedded.known()[data.name]["sha256"]
    clipped = np.add.reduceat(np.clip(data.rewards, -1, 1), data.offsets[:-1])
    for scale, returns in (("clipped", clipped), ("raw", data.returns)):
        digits = -2 if scale == "raw" and task in ("qbert", "seaquest") else 0
        headline = float(np.round(np.quantile(np.repeat(returns, data.lengths), 0.95), digits))
        assert suites.resolve("atari", task, "embedded", scale).targets == (headline, headline / 2)
    assert suites.resolve("atari", task, "embedded").rewards == "clipped"
