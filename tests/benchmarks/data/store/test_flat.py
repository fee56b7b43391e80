"""The flat copy of a set: it is used when it fits, and otherwise it is as if it were not there."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backbench.benchmarks.data import store
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.store import flat
from backbench.benchmarks.data.trajectories import Episode, Trajectories
from backbench.files import temporary_name

NAME = "backbench/hopper/handmade-v1"
ARRAYS = ("states", "actions", "rewards", "terminated", "offsets")
Episodes = Callable[..., list[Episode]]


@pytest.fixture
def written(new_store: Path, make_episodes: Episodes) -> Path:
    """The folder of a set of three episodes that is not read yet."""
    store.write(NAME, make_episodes([4, 7, 1]), "Hopper-v5", {})
    return new_store / NAME


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by a name whenever Minari's files are read."""
    names: list[str] = []
    real = store.load
    monkeypatch.setattr(store, "load", lambda name: names.append(name) or real(name))
    return names


def assert_equal(one: Trajectories, other: Trajectories) -> None:
    for name in ARRAYS:
        a, b = getattr(one, name), getattr(other, name)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), name
        assert a.flags.aligned
        assert a.flags.writeable, "torch warns of arrays that it might write to"
    for name in ("name", "digest", "n_actions", "rewards_clipped"):
        assert getattr(one, name) == getattr(other, name), name


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_the_second_reading_is_from_the_copy(written: Path, loads: list[str]) -> None:
    cold = store.read(NAME)
    assert loads == [NAME]
    copy = (written / flat.FILE).read_bytes()
    warm = store.read(NAME)
    assert loads == [NAME], "it was read again"
    assert_equal(warm, cold)
    assert (written / flat.FILE).read_bytes() == copy
    assert hidden(written) == []
    import minari

    assert list(minari.list_local_datasets()) == [NAME]
    assert store.names() == [NAME]


def test_a_warm_store_needs_no_minari(written: Path) -> None:
    digest = store.read(NAME).digest
    code = (
        "import sys; from backbench.benchmarks.data import store; d = store.read(sys.argv[1]); "
        "print(d.digest, *sorted({'minari', 'gymnasium', 'h5py', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, NAME], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [digest]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_any_damage_is_found(damaged: tuple[Path, bytes, Trajectories], place: float, bit: int, cut: bool) -> None:
    folder, copy, cold = damaged
    at = int(place * len(copy))
    changed = bytearray(copy)
    changed[at] ^= 1 << bit
    (folder / flat.FILE).write_bytes(copy[:at] if cut else bytes(changed))
    assert flat.read(folder, NAME) is None
    assert_equal(store.read(NAME), cold)
    assert (folder / flat.FILE).read_bytes() == copy, "it was not written again"


@pytest.fixture
def damaged(written: Path) -> tuple[Path, bytes, Trajectories]:
    cold = store.read(NAME)
    return written, (written / flat.FILE).read_bytes(), cold


def _with_header(copy: bytes, **changes: Any) -> bytes:
    """The copy with another header, and a hash that fits it."""
    _, line, rest = copy.split(b"\n", 2)
    line = json.dumps(json.loads(line) | changes, sort_keys=True).encode().ljust(len(line))
    body = line + b"\n" + rest
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def _with_array(copy: bytes, name: str, dtype: str, *shape: int) -> bytes:
    arrays = json.loads(copy.split(b"\n")[1])["arrays"]
    return _with_header(copy, arrays=arrays | {name: [dtype, shape]})


MISFITS: dict[str, Callable[[bytes], bytes | None]] = {
    "absent": lambda copy: None,
    "nothing": lambda copy: b"",
    "no lines": lambda copy: b"\x00" * 9000,
    "other JSON": lambda copy: copy[: flat.HASH] + b"[1, 2]".ljust(flat.BEGIN - flat.HASH),
    "deep JSON": lambda copy: copy[: flat.HASH] + b"[" * 9000,
    "more at the end": lambda copy: copy + b"\0",
    "another format": lambda copy: _with_header(copy, format=flat.FORMAT + 1),
    "another time": lambda copy: _with_header(copy, stamp="0" * 64),
    "another content": lambda copy: _with_header(copy, digest="0" * 64),
    "no arrays": lambda copy: _with_header(copy, arrays={}),
    "objects": lambda copy: _with_array(copy, "rewards", "|O", 12),
    "far too many": lambda copy: _with_array(copy, "rewards", "<f8", 10**18),
    "fewer than none": lambda copy: _with_array(copy, "states", "<f4", -12, -11),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_copy_that_does_not_fit_is_replaced(
    damaged: tuple[Path, bytes, Trajectories], loads: list[str], misfit: str
) -> None:
    folder, copy, cold = damaged
    put = MISFITS[misfit](copy)
    (folder / flat.FILE).unlink()
    if put is not None:
        (folder / flat.FILE).write_bytes(put)
    assert_equal(store.read(NAME), cold)
    assert loads == [NAME]
    assert (folder / flat.FILE).read_bytes() == copy


def test_the_helper_makes_headers_that_fit(damaged: tuple[Path, bytes, Trajectories], loads: list[str]) -> None:
    folder, copy, _ = damaged
    (folder / flat.FILE).write_bytes(_with_header(copy, more="to know"))
    store.read(NAME)
    assert loads == [], "the misfits above are refused for another reason than theirs"


def _change(folder: Path) -> None:
    with h5py.File(folder / "data" / "main_data.hdf5", "r+") as file:
        file["episode_1/rewards"][3] += 1.0


def _note(folder: Path) -> None:
    path = folder / store.SIDECAR
    path.write_text(json.dumps(json.loads(path.read_text()) | {"digest": "0" * 64}))


@pytest.mark.parametrize("change", [_change, _note])
def test_a_copy_does_not_hide_a_change(written: Path, change: Callable[[Path], None]) -> None:
    store.read(NAME)
    change(written)
    for _ in range(2):
        with pytest.raises(DataError, match="hash has changed"):
            store.read(NAME)


def test_changed_data_without_a_sidecar_are_read_again(written: Path, loads: list[str]) -> None:
    (written / store.SIDECAR).unlink()
    before = store.read(NAME)
    _change(written)
    after = store.read(NAME)
    assert after.rewards[7] == before.rewards[7] + 1.0
    assert after.digest != before.digest
    assert_equal(store.read(NAME), after)
    assert loads == [NAME, NAME]


def test_a_file_that_comes_goes_or_is_touched_changes_the_stamp(written: Path) -> None:
    stamps = [flat.stamp(written)]
    extra = written / "data" / "episode" / "more.parquet"
    extra.parent.mkdir()
    extra.write_bytes(b"x")
    stamps.append(flat.stamp(written))
    os.utime(extra, ns=(0, 1))
    stamps.append(flat.stamp(written))
    extra.rename(extra.with_name("other.parquet"))
    stamps.append(flat.stamp(written))
    assert len(set(stamps)) == 4
    extra.with_name("other.parquet").unlink()
    assert flat.stamp(written) == stamps[0]


def test_data_that_change_while_they_are_read_leave_no_copy(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = store.load

    def load(name: str) -> Trajectories:
        made = real(name)
        os.utime(written / "data" / "metadata.json", ns=(0, 1))
        return made

    monkeypatch.setattr(store, "load", load)
    store.read(NAME)
    assert not (written / flat.FILE).exists()
    assert hidden(written) == []


def _full_disk(patch: pytest.MonkeyPatch) -> Callable[[], None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (flat.BEGIN + 300, before[1]))  # within the arrays
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _no_rename(patch: pytest.MonkeyPatch) -> Callable[[], None]:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    patch.setattr(os, "replace", refuse)
    return patch.undo


@pytest.mark.parametrize("fault", [_full_disk, _no_rename])
def test_a_copy_that_cannot_be_written_is_not_needed(
    written: Path, loads: list[str], fault: Callable[[pytest.MonkeyPatch], Callable[[], None]]
) -> None:
    before = sorted(path.name for path in written.iterdir())
    with pytest.MonkeyPatch.context() as patch:
        undo = fault(patch)
        try:
            one, other = store.read(NAME), store.read(NAME)
        finally:
            undo()
    assert_equal(one, other)
    assert loads == [NAME, NAME]
    assert sorted(path.name for path in written.iterdir()) == before


def test_leftovers_of_a_killed_process_are_ignored_and_cleared(written: Path, loads: list[str]) -> None:
    child = os.fork()
    if child == 0:  # it dies with the file written and not yet in place
        os.replace = lambda *_: os._exit(9)
        store.read(NAME)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    (left,) = hidden(written)
    assert left.startswith(flat.PART)
    assert not (written / flat.FILE).exists()
    assert store.read(NAME).lengths.tolist() == [4, 7, 1]
    assert loads == [NAME]
    living = written / temporary_name(flat.FILE)
    living.touch()
    store.clear_leftovers()
    assert hidden(written) == [living.name], "it may still be being written"
    assert (written / flat.FILE).is_file()


def test_an_open_copy_outlives_its_file(written: Path, make_episodes: Episodes) -> None:
    cold = store.read(NAME)
    warm = store.read(NAME)
    warm.rewards[0] += 1.0
    assert_equal(store.read(NAME), cold)  # the change did not reach the file
    warm.rewards[0] = cold.rewards[0]
    store.write(NAME, make_episodes([5], seed=3), "Hopper-v5", {})
    assert store.read(NAME).lengths.tolist() == [5]
    assert_equal(warm, cold)


def test_many_readers_and_writers_agree(written: Path) -> None:
    """Readers, some of which find no copy, or find one that another has just taken away."""
    cold = store.load(NAME)
    wrong: list[object] = []

    def read() -> None:
        for round_ in range(12):
            try:
                found = flat.read(written, NAME)
                if found is not None:
                    assert_equal(found, cold)
                elif round_ % 3:
                    flat.write(written, cold, flat.stamp(written))
                else:
                    (written / flat.FILE).unlink(missing_ok=True)
            except BaseException as error:
                wrong.append(error)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert hidden(written) == []
    store.read(NAME)
    assert_equal(store.read(NAME), cold)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    width=st.integers(1, 5),
    n_actions=st.one_of(st.none(), st.integers(1, 9)),
)
def test_any_arrays_come_back(tmp_path: Path, lengths: list[int], width: int, n_actions: int | None) -> None:
    rng, steps = np.random.default_rng(sum(lengths)), sum(lengths)
    vectors = rng.standard_normal((steps, 2)).astype(np.float32)
    data = Trajectories(
        states=rng.standard_normal((steps, width)).astype(np.float32),
        actions=vectors if n_actions is None else rng.integers(n_actions, size=steps),
        rewards=rng.standard_normal(steps),
        terminated=rng.random(len(lengths)) < 0.5,
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        name="some/set-v0",
        digest="5" * 64,
        n_actions=n_actions,
    )
    (tmp_path / "data").mkdir(exist_ok=True)
    flat.write(tmp_path, data, flat.stamp(tmp_path))
    found = flat.read(tmp_path, "some/set-v0")
    assert found is not None
    assert_equal(found, data)
