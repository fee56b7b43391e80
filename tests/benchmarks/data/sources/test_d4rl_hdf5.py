"""D4RL's files: split as a plain loop splits them, and refused where anything is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from d4rl_files import episodes, flat, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.sources import d4rl_hdf5
from backbench.benchmarks.data.trajectories import Trajectories

HOPPER = (11, 3)
FAST = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
ARRAYS = ("observations", "next_observations", "actions", "rewards")


def plain(arrays: Any) -> tuple[list[Any], int]:
    """Step by step: the episodes as (observations, actions, rewards, terminated), and how many steps are left over."""
    done, current = [], []
    for t in range(len(arrays["rewards"])):
        current.append(t)
        if arrays["terminals"][t] or arrays["timeouts"][t]:
            seen = [arrays["observations"][i] for i in current]
            seen.append(arrays["next_observations"][t] if "next_observations" in arrays else seen[-1])
            taken = [arrays["actions"][i] for i in current]
            got = [float(arrays["rewards"][i]) for i in current]
            done.append((np.stack(seen), np.stack(taken), np.array(got), bool(arrays["terminals"][t])))
            current = []
    return done, len(current)


def check(found: d4rl_hdf5.FlatEpisodes, arrays: Any) -> None:
    expected, rest = plain(arrays)
    assert (len(found), found.dropped) == (len(expected), rest)
    for e, (observations, actions, rewards, terminated) in zip(found, expected, strict=True):
        assert e.observations.dtype == e.actions.dtype == np.float32
        assert e.rewards.dtype == np.float64
        assert np.array_equal(e.observations, observations)
        assert np.array_equal(e.actions, actions)
        assert np.array_equal(e.rewards, rewards)
        assert e.terminated is terminated


def read(path: Path, arrays: Any, **options: Any) -> d4rl_hdf5.FlatEpisodes:
    return d4rl_hdf5.read(write(path / "hopper_medium-v2.hdf5", arrays, **options), *HOPPER)


@FAST
@given(ends=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30), recorded=st.booleans())
def test_split_as_a_plain_loop_does(tmp_path: Path, ends: list[tuple[bool, bool]], recorded: bool) -> None:
    arrays = flat(*zip(*ends, strict=True))
    if not recorded:
        del arrays["next_observations"]
    if not any(map(any, ends)):
        with pytest.raises(DataError, match="no complete episode"):
            read(tmp_path, arrays)
        return
    found = read(tmp_path, arrays)
    check(found, arrays)
    assert found.discontinuities == (0 if recorded else None)
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("terminals", "timeouts", "lengths", "terminated", "dropped"),
    [
        ("001", "001", [3], [True], 0),  # both at one step
        ("1001", "0000", [1, 3], [True, True], 0),  # an episode of one step comes first
        ("0010", "0000", [3], [True], 1),
        ("0000000", "0100100", [2, 3], [False, False], 2),
        ("0100", "0001", [2, 2], [True, False], 0),
        ("1", "0", [1], [True], 0),
    ],
)
def test_an_episode_ends_at_a_terminal_or_timeout(
    tmp_path: Path, terminals: str, timeouts: str, lengths: list[int], terminated: list[bool], dropped: int
) -> None:
    found = read(tmp_path, flat(*([c == "1" for c in row] for row in (terminals, timeouts))))
    assert [len(e.rewards) for e in found] == lengths
    assert [len(e.observations) for e in found] == [n + 1 for n in lengths]
    assert [e.terminated for e in found] == terminated
    assert found.dropped == dropped


def test_episodes_are_a_sequence(tmp_path: Path) -> None:
    arrays = episodes([2, 1, 3], [True, False, True])
    found = read(tmp_path, arrays)
    assert np.array_equal(found[-1].rewards, arrays["rewards"][3:])
    assert [len(e.rewards) for e in found[1:]] == [1, 3]
    for outside in (3, -4):
        with pytest.raises(IndexError):
            found[outside]
    assert np.shares_memory(found[0].actions, found[2].actions) is False
    assert np.shares_memory(found[0].actions, found.actions), "actions are not copied"


def test_arrays_keep_the_types_of_the_file(tmp_path: Path) -> None:
    """And the rewards are float64 of the file's float32, not of what they were rounded from."""
    arrays = episodes([4], [True])
    arrays["rewards"][0] = np.float32(0.1)
    (found,) = read(tmp_path, arrays)
    assert found.rewards[0] == float(np.float32(0.1)) != 0.1


def test_storage_does_not_matter(tmp_path: Path) -> None:
    arrays = episodes([40, 60], [True, False], rest=7)
    plainly = Trajectories.from_episodes(read(tmp_path / "a", arrays)).digest
    packed = read(tmp_path / "b", arrays, chunks=True, compression="gzip")
    assert Trajectories.from_episodes(packed).digest == plainly


def test_episodes_over_the_time_limit_give_a_warning(tmp_path: Path) -> None:
    found = read(tmp_path, episodes([1000, 3, 1001, 1200], [False] * 4))
    assert found.warnings == (
        "hopper_medium-v2.hdf5: 2 episodes are longer than 1,000 steps, the first of them episode 2 with 1,001",
    )
    assert [len(e.rewards) for e in found] == [1000, 3, 1001, 1200]


@FAST
@given(where=st.sets(st.integers(0, 11)))
def test_discontinuities_are_counted(tmp_path: Path, where: set[int]) -> None:
    """Episodes of 4, 1 and 5 steps, and two steps that are left out; an episode's last step agrees with nothing."""
    arrays = episodes([4, 1, 5], [True, False, True], rest=2)
    for t in where:
        arrays["next_observations"][t, 10] += 1
    found = read(tmp_path, arrays)
    inside = sorted(where - {3, 4, 9, 10, 11})
    assert found.discontinuities == len(inside)
    if inside:
        place = f"episode 0, step {inside[0]}" if inside[0] < 4 else f"episode 2, step {inside[0] - 5}"
        said = f"hopper_medium-v2.hdf5: next_observations is not the observation of the next step at {len(inside)} "
        assert found.warnings == (f"{said}steps, the first of them {place}",)
    else:
        assert found.warnings == ()
    check(found, arrays)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ARRAYS)
def test_nan_is_refused(tmp_path: Path, name: str, value: float) -> None:
    arrays = episodes([4, 1, 5], [True, False, True], rest=2)
    arrays[name][7] = value
    with pytest.raises(DataError) as caught:
        read(tmp_path, arrays)
    path = tmp_path / "hopper_medium-v2.hdf5"
    assert str(caught.value) == f"{path}: '{name}' is NaN or infinite in episode 2, step 2; get the file again"


@pytest.mark.parametrize("name", ARRAYS)
def test_nan_in_skipped_steps_is_ignored(tmp_path: Path, name: str) -> None:
    arrays = episodes([4, 1], [True, False], rest=2)
    arrays[name][5:] = np.nan
    assert read(tmp_path, arrays).dropped == 2


@pytest.mark.parametrize("name", ["observations", "actions", "rewards", "terminals", "timeouts"])
def test_a_missing_array_is_named(tmp_path: Path, name: str) -> None:
    arrays = episodes([4], [True])
    del arrays[name]
    with pytest.raises(
        DataError, match=f"has no array '{name}', only .*infos, metadata, next_observations.*"
    ) as caught:
        read(tmp_path, arrays)
    assert all(other in str(caught.value) for other in arrays)
    arrays[f"{name}/0"] = np.zeros(4)  # a folder of that name
    with pytest.raises(DataError, match=f"has no array '{name}'"):
        read(tmp_path, arrays)


def change(name: str, how: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda arrays: arrays | {name: how(arrays[name])}


FORMS: dict[str, tuple[Callable[[Any], Any], str]] = {
    **{
        f"short {name}": (change(name, lambda array: array[:-1]), f"'{name}' has 9 steps, 'observations' 10; get")
        for name in ("next_observations", "actions", "rewards", "terminals", "timeouts")
    },
    "short observations": (
        change("observations", lambda array: array[:-1]),
        "'actions' has 10 steps, 'observations' 9",
    ),
    "wide observations": (
        change("observations", lambda a: np.hstack([a, a])),
        r"shape \(10, 22\), expected \(steps, 11\)",
    ),
    "narrow actions": (change("actions", lambda array: array[:, :2]), r"'actions' has shape \(10, 2\), expected"),
    "next of another": (change("next_observations", lambda a: a[:, 1:]), r"'next_observations' has shape \(10, 10\)"),
    "flat actions": (
        change("actions", lambda array: array[:, 0]),
        r"'actions' has shape \(10,\), expected \(steps, 3\)",
    ),
    "rewards in a column": (change("rewards", lambda array: array[:, None]), r"shape \(10, 1\), expected \(steps\)"),
    "one reward": (change("rewards", lambda array: array[0]), r"'rewards' has shape \(\), expected"),
    "whole observations": (change("observations", lambda array: array.astype(np.int32)), "of type int32, not floating"),
    "rewards in words": (change("rewards", lambda array: array.astype("S8")), r"'rewards', of type \|S8, not numbers"),
    "counted terminals": (change("terminals", lambda array: array.astype(np.float32)), "float32, not booleans"),
    "no steps": (lambda arrays: {name: array[:0] for name, array in arrays.items()}, "has no steps"),
    "no end": (
        lambda a: a | {"terminals": a["terminals"] & False, "timeouts": a["timeouts"] & False},
        "no complete epis",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_array_of_another_form_is_refused(tmp_path: Path, form: str) -> None:
    how, said = FORMS[form]
    with pytest.raises(DataError, match=said) as caught:
        read(tmp_path, how(episodes([4, 6], [True, False])))
    assert str(caught.value).startswith(str(tmp_path / "hopper_medium-v2.hdf5"))
    assert "\n" not in str(caught.value)


def test_a_file_of_another_environment_is_refused(tmp_path: Path) -> None:
    arrays = episodes([4], [True], environment="walker2d")
    with pytest.raises(
        DataError, match=r"'observations' has shape \(4, 17\), expected \(steps, 11\); is this the right"
    ):
        read(tmp_path, arrays)


@pytest.mark.parametrize("content", [b"", b"<html>not here</html>", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" * 500])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "hopper_medium-v2.hdf5"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read as HDF5 \(.+\); get the file again") as caught:
        d4rl_hdf5.read(path, *HOPPER)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module", params=["plain", "packed"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    """A file's bytes, and the hash of its content."""
    options = {"chunks": True, "compression": "gzip"} if request.param == "packed" else {}
    path = write(tmp_path_factory.mktemp("whole") / "file", episodes([30, 20], [True, False], rest=5), **options)
    return path.read_bytes(), Trajectories.from_episodes(d4rl_hdf5.read(path, *HOPPER)).digest


@settings(FAST, max_examples=50)  # each reads in a child process first
@given(share=st.floats(0, 1))
def test_a_truncated_file_is_refused(tmp_path: Path, whole: tuple[bytes, str], share: float) -> None:
    content, digest = whole
    path = tmp_path / "file"
    path.write_bytes(content[: int(share * len(content))])
    try:
        found = d4rl_hdf5.read(path, *HOPPER)
    except DataError as error:
        assert "cannot be read as HDF5" in str(error)  # noqa: PT017
    else:
        assert Trajectories.from_episodes(found).digest == digest


def test_an_error_while_reading_is_named(tmp_path: Path) -> None:
    """A damaged block of a packed array: the file opens, its arrays are listed, and then one cannot be read."""
    path = write(tmp_path / "file", episodes([300], [True]), chunks=True, compression="gzip")
    with h5py.File(path) as file:
        block = file["actions"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[block.byte_offset : block.byte_offset + block.size] = b"\xff" * block.size
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read at 'actions'"):
        d4rl_hdf5.read(path, *HOPPER)
