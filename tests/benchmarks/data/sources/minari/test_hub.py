"""Sets from Minari's remote arrive complete or not at all, whatever the server does, and fail fast without one."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict
from hub_server import Hub, bucket, buffers, make, publish, serving

from backbench.benchmarks.data import store
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.sources.minari import client
from backbench.benchmarks.data.sources.minari import hub as minari_hub

SMALL, GOAL, BIG, PICTURES = "toy/walk/medium-v0", "toy/maze/goal-v1", "toy/walk/big-v0", "toy/film/short-v0"
STATE, ACTION = Box(-np.inf, np.inf, (5,), np.float64), Box(-1, 1, (2,))
LENGTHS = {SMALL: [3, 5], GOAL: [4, 2], BIG: [9000, 9000]}
DATA = "data/main_data.hdf5"
TOLD = {"author": ["Ada"], "algorithm": "dice", "code_permalink": "https://example.org/code", "env_spec": "Hopper-v5"}


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "MINARI_REMOTE", "HF_TOKEN", "STORAGE_EMULATOR_HOST"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(minari_hub, "POLL", 0.05)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the organisation has."""
    root = tmp_path_factory.mktemp("organisation")
    told = {"author": "Ada", "algorithm_name": "dice", "code_permalink": "https://example.org/code"}
    make(root, SMALL, buffers(LENGTHS[SMALL]), STATE, ACTION, env="Hopper-v5", **told)
    make(root, BIG, buffers(LENGTHS[BIG]), STATE, ACTION)
    goal = Dict({"observation": STATE, "desired_goal": Box(-9, 9, (2,))})
    make(root, GOAL, buffers(LENGTHS[GOAL], goal=True), goal, ACTION)
    make(root, PICTURES, [], Box(0, 255, (84, 84, 3), np.uint8), ACTION)
    publish(root)
    return root


@pytest.fixture
def hub(originals: Path, new_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(originals) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


@pytest.fixture
def change(
    originals: Path, new_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Hub]]:
    """Serves the sets with one of them changed."""
    root = tmp_path / "changed"
    shutil.copytree(originals, root)
    with serving(root) as running:

        def change(fault: Callable[[Path], None], name: str = SMALL) -> Hub:
            fault(root / name)
            return running

        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield change


def pull(name: str, force: bool = False) -> list[str]:
    """The lines of a report."""
    lines: list[str] = []
    minari_hub.pull(name, lines.append, force)
    return lines


def refused(name: str, force: bool = False) -> str:
    with pytest.raises(DataError) as caught:
        minari_hub.pull(name, lambda line: None, force)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def hidden(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir() if p.name.startswith(".")) if root.exists() else []


def expected_digest(name: str) -> str:
    """Written once more from its definition."""
    hasher = hashlib.sha256()
    for e in buffers(LENGTHS[name], goal=name == GOAL):
        seen = np.hstack([e.observations[k] for k in sorted(e.observations)]) if name == GOAL else e.observations
        for label, array in (("observations", seen), ("actions", e.actions), ("rewards", e.rewards)):
            hasher.update(f"{label} {array.dtype.str} {array.shape};".encode() + array.tobytes())
        hasher.update(b"terminated" if e.terminations[-1] else b"truncated")
    return hasher.hexdigest()


@pytest.mark.parametrize("name", [SMALL, GOAL])
def test_a_set_arrives_complete(hub: Hub, new_store: Path, capfd: pytest.CaptureFixture[str], name: str) -> None:
    lines = pull(name)
    steps = sum(LENGTHS[name])
    assert lines == [f"{name}: 2 episodes, {steps} steps from hf://farama-minari"]
    assert capfd.readouterr().out == "", "Minari's own lines belong on stderr"
    assert store.names() == [name]
    assert hidden(new_store) == []
    data = store.read(name)
    assert data.digest == expected_digest(name) == store.sidecar(name)["digest"]
    assert data.lengths.tolist() == LENGTHS[name]
    assert data.states.shape == (steps, 7 if name == GOAL else 5)
    group = name.split("/")[0]
    assert json.loads((new_store / group / "namespace_metadata.json").read_text())["description"] == "about toy"
    inside = sorted(p.relative_to(new_store / name).as_posix() for p in (new_store / name).rglob("*") if p.is_file())
    assert [p for p in inside if p != "flat.bin"] == [store.SIDECAR, DATA, "data/metadata.json"]
    noted = store.sidecar(name)
    assert (noted["episodes"], noted["steps"]) == (2, steps)
    origin = {"source": "minari", "remote": "hf://farama-minari", "original": name}
    assert noted["origin"] == origin | (TOLD if name == SMALL else {})
    hub.asked.clear()
    assert pull(name) == [f"{name} is in the store already; --force replaces it"]
    assert hub.asked == []


def size(root: Path, name: str) -> int:
    return (root / name / DATA).stat().st_size


def ranges(hub: Hub) -> list[str | None]:
    return [wanted for request, wanted in hub.asked if request.startswith("GET") and request.endswith(DATA)]


def test_an_interrupted_connection_resumes(hub: Hub, originals: Path) -> None:
    hub.faults = [("main_data", ("cut", 700_000))]
    pull(BIG)
    assert ranges(hub) == [None, "bytes=700000-"]
    assert hub.sent["main_data.hdf5"] == size(originals, BIG), "nothing is fetched twice"
    assert store.read(BIG).digest == expected_digest(BIG)


@pytest.fixture
def impatient(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Waits only briefly once the server has fallen silent."""
    monkeypatch.setattr(minari_hub, "STALL", 60.0)

    def hurry() -> None:
        if hub.stalled.wait(30):
            time.sleep(0.2)  # for what was sent to be written
            minari_hub.STALL = 0.2

    thread = threading.Thread(target=hurry)
    thread.start()
    yield
    hub.stalled.set()
    thread.join()


def test_a_silent_server_ends_the_download_and_the_next_call_resumes(
    hub: Hub, impatient: None, originals: Path, new_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of the file; the next call goes on from there."""
    hub.faults = [("GET /datasets/farama-minari/toy/resolve/main/walk/big-v0/data/main", ("stall", 600_000))]
    assert "no data have arrived for 0.2 seconds; the part so far is kept: run the command again" in refused(BIG)
    assert store.names() == []
    assert len(hidden(new_store)) == 1
    monkeypatch.setattr(minari_hub, "STALL", 60.0)
    pull(BIG)
    begin = int((ranges(hub)[1] or "").removeprefix("bytes=").removesuffix("-"))
    assert 0 < begin <= 600_000
    assert hub.sent["main_data.hdf5"] == 600_000 + size(originals, BIG) - begin
    assert store.read(BIG).digest == expected_digest(BIG)
    assert hidden(new_store) == []


def test_a_server_that_never_answers_ends_the_download(hub: Hub, impatient: None) -> None:
    """Where the hub's client would wait for ever."""
    hub.faults = [("GET /api/datasets/farama-minari/toy", ("stall", 0))]
    assert "no data have arrived for 0.2 seconds" in refused(SMALL)


def test_a_killed_pull_resumes(hub: Hub, originals: Path, new_store: Path) -> None:
    code = f"from backbench.benchmarks.data.sources.minari import hub; hub.pull({BIG!r})"
    hub.faults = [("GET /datasets/farama-minari/toy/resolve/main/walk/big-v0/data/main", ("stall", 500_000))]
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as victim:
        assert hub.stalled.wait(30)
        time.sleep(0.2)  # for what was sent to be written
        assert f"is being pulled by process {victim.pid} on" in refused(BIG)
        victim.send_signal(signal.SIGKILL)
    assert store.names() == []
    pull(BIG)
    have = ranges(hub)[1] or ""
    assert 0 < int(have.removeprefix("bytes=").removesuffix("-")) <= 500_000
    assert store.read(BIG).digest == expected_digest(BIG)


def test_another_version_does_not_resume_a_part(
    hub: Hub, impatient: None, originals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.faults = [("data/main", ("stall", 500_000))]
    refused(BIG)
    monkeypatch.setattr(minari_hub, "STALL", 60.0)
    path = originals / BIG / DATA
    before = path.read_bytes()
    try:
        edited(lambda file: file["episode_0/rewards"].write_direct(np.full(9000, 7.0)))(originals / BIG)
        pull(BIG)
    finally:
        path.write_bytes(before)
    assert ranges(hub) == [None, None]
    assert store.read(BIG).rewards[:9000].tolist() == [7.0] * 9000


@pytest.mark.parametrize(
    ("where", "fault", "said"),
    [
        ("GET /api/datasets/farama-minari/toy", ("always", 500), "the server answered 500"),
        ("GET /api/datasets/farama-minari/toy", ("always", 401), "answered 401; .* set HF_TOKEN"),
        ("data/main_data.hdf5", ("always", 403), "answered 403; .* set HF_TOKEN"),
        ("HEAD /datasets/farama-minari/toy/resolve/main/walk/medium-v0/data/metadata", 404, "server answered 404"),
    ],
)
def test_a_refusal_is_one_line(hub: Hub, where: str, fault: Any, said: str) -> None:
    hub.faults = [(where, fault)]
    assert re.search(said, refused(SMALL))
    assert store.names() == []


def test_after_a_failure_the_next_call_succeeds(hub: Hub) -> None:
    hub.faults = [("GET /datasets/farama-minari/toy/resolve", 503)]
    assert refused(SMALL).endswith("the server answered 503; the part so far is kept: run the command again")
    pull(SMALL)
    assert store.read(SMALL).digest == expected_digest(SMALL)


def test_a_first_answer_that_takes_long_is_an_answer(hub: Hub) -> None:
    hub.faults = [("HEAD /", ("stall", 0))]
    pull(SMALL)
    assert store.names() == [SMALL]


@pytest.mark.parametrize(
    ("name", "near"),
    [("toy/walk/medium-v7", SMALL), ("toy/walk/medum-v0", SMALL), ("nothing/alike/at-v0", "near it: none")],
)
def test_an_unknown_set_names_near_ones(hub: Hub, name: str, near: str) -> None:
    said = refused(name)
    assert f"there is no data set {name!r} at hf://farama-minari; " in said
    assert near in said


@pytest.mark.parametrize(
    "name", ["hopper", "toy/walk/medium", "../out-v0", "toy//x-v0", "hf://farama-minari/a/b-v0", ""]
)
def test_other_names_are_refused(new_store: Path, name: str) -> None:
    assert "write it with its version: mujoco/hopper/medium-v0" in refused(name)
    assert not new_store.exists()


def test_images_are_refused_before_the_download(hub: Hub) -> None:
    assert "pixels (84, 84, 3)" in refused(PICTURES)
    assert "main_data.hdf5" not in hub.sent


def edited(edit: Callable[[Any], None]) -> Callable[[Path], None]:
    def fault(folder: Path) -> None:
        with h5py.File(folder / DATA, "r+") as file:
            edit(file)

    return fault


def claim(**values: Any) -> Callable[[Path], None]:
    def fault(folder: Path) -> None:
        path = folder / "data" / "metadata.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return fault


def truncate(folder: Path) -> None:
    path = folder / DATA
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_number(file: Any) -> None:
    file["episode_1/observations"][2, 3] = np.nan


def no_steps(file: Any) -> None:
    for name in ("rewards", "actions", "terminations", "truncations"):
        file[f"episode_1/{name}"].resize(0, axis=0)


UNSOUND: dict[str, tuple[Callable[[Path], None], str]] = {
    "more steps claimed": (claim(total_steps=9), "holds 8 steps where its metadata say 9"),
    "fewer episodes claimed": (claim(total_episodes=1), "holds 2 episodes where its metadata say 1"),
    "truncated": (truncate, "cannot be read: "),
    "NaN": (edited(no_number), "episode 1, step 2: NaN or infinite observations"),
    "no steps": (edited(no_steps), "episode 1 has no steps"),
    "another id": (claim(dataset_id="toy/walk/other-v0"), "there is no data set"),
    "of the future": (claim(minari_version="9.0.0"), "is of Minari 9.0.0"),
}


@pytest.mark.parametrize("fault", UNSOUND)
def test_an_unsound_set_is_not_put_into_the_store(change: Callable[..., Hub], new_store: Path, fault: str) -> None:
    break_it, said = UNSOUND[fault]
    change(break_it)
    message = refused(SMALL)
    assert said in message
    assert f"data set '{SMALL}'" in message
    assert store.names() == []
    assert list(new_store.rglob("main_data.hdf5")) == []


def test_a_set_that_contradicts_the_remote_is_refused(originals: Path) -> None:
    with pytest.raises(DataError, match=r"has total_steps 8 in its metadata\.json; expected 80"):
        minari_hub._checked(SMALL, originals / SMALL, "hf://farama-minari", {"total_steps": 80}, print)


def test_force_replaces_a_set_and_a_failure_keeps_it(change: Callable[..., Hub]) -> None:
    change(lambda folder: None)
    pull(SMALL)
    before = store.read(SMALL).digest
    change(edited(no_number))
    refused(SMALL, force=True)
    assert store.read(SMALL).digest == before

    def mend(file: Any) -> None:
        file["episode_1/observations"][2, 3] = 0.5

    change(edited(mend))
    pull(SMALL, force=True)
    assert store.read(SMALL).digest != before
    assert store.sidecar(SMALL)["digest"] == store.read(SMALL).digest


def test_a_set_that_minari_downloaded_gets_a_sidecar(
    originals: Path, new_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # it is not asked
    shutil.copytree(originals / SMALL, new_store / SMALL)
    assert pull(SMALL) == [f"{SMALL} is in the store already; it is sound, and its hash is recorded now"]
    assert store.sidecar(SMALL)["digest"] == expected_digest(SMALL)
    assert "remote" not in store.sidecar(SMALL)["origin"]
    assert hidden(new_store) == []


def test_a_broken_set_that_minari_downloaded_gets_no_sidecar(originals: Path, new_store: Path) -> None:
    shutil.copytree(originals / SMALL, new_store / SMALL)
    edited(no_number)(new_store / SMALL)
    assert "episode 1, step 2: NaN or infinite observations" in refused(SMALL)
    assert store.sidecar(SMALL) == {}


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


@pytest.mark.parametrize("way", ["refused", "unknown host", "switched off", "proxy", "gcp"])
def test_no_network_is_said_at_once(new_store: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    address = f"http://127.0.0.1:{closed_port()}"
    monkeypatch.setenv("HF_ENDPOINT", "http://no-such-host.invalid" if way == "unknown host" else address)
    if way == "switched off":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    elif way == "proxy":
        monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
        monkeypatch.setenv("http_proxy", address)
        monkeypatch.delenv("NO_PROXY")
    elif way == "gcp":
        monkeypatch.setenv("MINARI_REMOTE", "gcp://bucket")
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    begin = time.monotonic()
    said = refused(SMALL)
    assert time.monotonic() - begin < 2.5
    assert said.startswith("no network (")
    assert ("HF_HUB_OFFLINE is set" in said) == (way == "switched off")
    assert f"`bench data pull minari {SMALL}`" in said
    assert f"copy the folder {SMALL} into the store {new_store}" in said
    assert not new_store.exists()


def test_a_host_that_drops_connections_is_reported_at_once(new_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full backlog: the connection is never made."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        port = deaf.getsockname()[1]
        with socket.socket() as first, socket.socket() as second:
            for filler in (first, second):
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
            begin = time.monotonic()
            assert "timed out" in refused(SMALL)
            assert time.monotonic() - begin < 2.5


@pytest.mark.parametrize("remote", ["farama-minari", "s3://bucket", "hf://"])
def test_another_kind_of_remote_is_refused(new_store: Path, monkeypatch: pytest.MonkeyPatch, remote: str) -> None:
    monkeypatch.setenv("MINARI_REMOTE", remote)
    assert refused(SMALL) == f"MINARI_REMOTE is '{remote}'; write hf://ORGANISATION or gcp://BUCKET"


def test_a_bucket_needs_its_client(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_REMOTE", "gcp://bucket")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", hub.url)
    assert refused(SMALL).endswith('pip install "minari[gcs]"`')


def test_a_set_arrives_from_a_bucket(
    hub: Hub, originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Google's client is no part of the installation; a stand-in shows that Minari's way through it works too."""
    monkeypatch.setenv("MINARI_REMOTE", "gcp://bucket")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", hub.url)
    monkeypatch.setenv("PYTHONPATH", str(bucket(tmp_path / "client")), prepend=os.pathsep)
    monkeypatch.setenv("BUCKET", str(originals))
    monkeypatch.setenv("DIE", "1")
    assert refused(SMALL) == f"{SMALL}: the download ended with status 9{client.KEPT}"
    assert store.names() == []
    monkeypatch.delenv("DIE")
    pull(SMALL)
    assert store.read(SMALL).digest == expected_digest(SMALL)
    assert store.sidecar(SMALL)["origin"]["remote"] == "gcp://bucket"


def test_a_second_pull_of_the_same_set_is_refused(hub: Hub, new_store: Path) -> None:
    with minari_hub._staging("hf://farama-minari", SMALL):
        here = f"process {os.getpid()} on {os.uname().nodename}"
        assert refused(SMALL) == f"{SMALL} is being pulled by {here}; wait until it is done"
    assert hub.asked == [("HEAD /", None)]
    pull(SMALL)


def test_a_full_disk_is_named() -> None:
    problem = RuntimeError("Please check your connection\nand so on")
    problem.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert client.in_words(problem) == "the disk is full (No space left on device)" + client.KEPT
    assert client.in_words(ValueError("one\ntwo")) == "one two" + client.KEPT


def test_a_store_that_cannot_be_written_is_named(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "file" / "store"))
    assert f"cannot write to the data store {tmp_path / 'file' / 'store'}" in refused(SMALL)
