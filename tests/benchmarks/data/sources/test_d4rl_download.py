"""Downloading D4RL's files: the same set, or one clear line, whatever the network and the server do."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from d4rl_files import ARRAYS, FILE, NAME, Server, cache, episodes, files, pull, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backbench.benchmarks.data import download, store
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.sources import d4rl

OFFLINE = (
    "; with no network, copy the file from elsewhere and give its folder: bench data pull d4rl hopper-medium "
    "--from FOLDER"
)

pytestmark = pytest.mark.usefixtures("soon")


def test_a_set_is_downloaded(new_store: Path, server: Server, digest: str) -> None:
    lines: list[str] = []
    made = pull(server.url + "/", report=lines.append)
    assert made.digest == digest == store.read(NAME).digest
    assert server.asked == [(FILE, None, None)]
    assert store.sidecar(NAME)["origin"]["address"] == f"{server.url}/{FILE}"
    assert lines[0].startswith(f"fetched {FILE} (")
    assert store.names() == [NAME]
    assert [p.name for p in new_store.iterdir()] == ["d4rl"], "what was fetched is removed"


def test_the_file_can_be_kept(new_store: Path, server: Server, folder: Path, digest: str) -> None:
    import minari

    assert pull(server.url, keep=True).digest == digest
    assert files(new_store / ".cache") == [f"d4rl/hopper_medium-v2/{FILE}"]
    assert (cache(new_store) / FILE).read_bytes() == (folder / FILE).read_bytes()
    assert store.names() == [NAME] == list(minari.list_local_datasets())
    server.asked.clear()
    assert pull(server.url).digest == digest
    assert server.asked == []
    assert [p.name for p in new_store.iterdir()] == ["d4rl"]


def test_progress_tells_bytes_and_total(
    new_store: Path, server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (folder / FILE).stat().st_size
    told: list[tuple[int, int | None]] = []
    monkeypatch.setattr(download, "TICK", 0.0)
    server.faults = [("cut", 700)]
    pull(server.url, progress=lambda done, total: told.append((done, total)))
    assert {total for _, total in told} == {size}
    done = [d for d, _ in told]
    assert (done[0], done[-1]) == (0, size)
    assert done == sorted(done)
    assert len(set(done)) > size // 500
    told.clear()
    monkeypatch.setattr(download, "TICK", 60.0)
    pull(server.url, progress=lambda done, total: told.append((done, total)))
    assert told == [(0, size), (size, size)], "now and then only"


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shares=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=4), validators=st.sampled_from([0, 1, 2])
)
def test_a_download_interrupted_anywhere_resumes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: Server,
    folder: Path,
    digest: str,
    shares: list[float],
    validators: int,
) -> None:
    """One call after the other is cut; nothing is ever there under its name, and nothing is fetched twice."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "own-store"))
    monkeypatch.setattr(download, "PAUSES", ())
    server.validators = (("ETag", "Last-Modified"), ("Last-Modified",), ())[validators]
    server.asked.clear()
    server.sent = have = 0
    size = (folder / FILE).stat().st_size
    for share in shares:
        amount = int(share * (size - have))
        server.faults = [("cut", amount)]
        with pytest.raises(DataError, match=f"ended after {have + amount:,} of {size:,} bytes, 1 times in a row"):
            pull(server.url)
        have += amount
        assert not (cache(store.root()) / FILE).exists()
        assert (cache(store.root()) / f"{FILE}.part").stat().st_size == have
    assert pull(server.url).digest == digest
    assert server.sent == size
    etag = f'"{hashlib.md5((folder / FILE).read_bytes()).hexdigest()}"'
    for _, wanted, condition in server.asked:
        assert (condition == etag) == (wanted is not None and validators == 0)
        assert (condition is not None) == (wanted is not None and validators < 2)
    assert files(store.root() / ".cache") == []


@pytest.mark.parametrize("validators", [("ETag",), ("Last-Modified",), ()])
@pytest.mark.parametrize("fault", [None, "deaf"])
@pytest.mark.parametrize("calls", [1, 2])
def test_two_versions_are_never_joined(
    new_store: Path, server: Server, folder: Path, monkeypatch: Any, validators: tuple[str, ...], fault: Any, calls: int
) -> None:
    """Neither a further try nor a further call joins two versions."""
    other = episodes([30, 1, 25], [True, True, False], seed=9)

    def replace() -> None:
        write(folder / FILE, other)
        os.utime(folder / FILE, (10**9, 10**9))

    server.validators = validators
    server.faults = [("cut", 3000)]
    if calls == 1:
        monkeypatch.setattr(download.time, "sleep", lambda seconds: replace() if len(server.asked) == 1 else None)
    else:
        monkeypatch.setattr(download, "PAUSES", ())
        with pytest.raises(DataError, match="ended after 3,000"):
            pull(server.url)
        replace()
        monkeypatch.setattr(download, "PAUSES", (0.0,))
    server.faults += [fault]
    made = pull(server.url)
    assert np.array_equal(made.states, other["observations"])
    assert files(new_store / ".cache") == []


def test_a_part_of_unknown_version_is_not_continued(new_store: Path, server: Server, digest: str) -> None:
    for note in (None, "", '{"etag": "x', "{}"):  # none, or one that was cut short
        cache(new_store).mkdir(parents=True, exist_ok=True)
        (cache(new_store) / f"{FILE}.part").write_bytes(b"x" * 50)
        if note is not None:
            (cache(new_store) / f"{FILE}.part.json").write_text(note)
        server.asked.clear()
        assert pull(server.url).digest == digest
        assert server.asked == [(FILE, None, None)]


def test_a_weak_etag_is_no_version() -> None:
    """It may be the same for contents that are not equal."""
    answer = SimpleNamespace(headers={"ETag": 'W/"same"', "Last-Modified": "yesterday"})
    assert download._version(answer, 5) == {"modified": "yesterday", "size": 5}
    answer.headers["ETag"] = '"same"'
    assert download._version(answer, None) == {"modified": "yesterday", "etag": '"same"'}


def test_a_complete_part_is_used(new_store: Path, server: Server, folder: Path, digest: str) -> None:
    """Killed between the last byte and the new name."""
    content = (folder / FILE).read_bytes()
    cache(new_store).mkdir(parents=True)
    (cache(new_store) / f"{FILE}.part").write_bytes(content)
    (cache(new_store) / f"{FILE}.part.json").write_text(json.dumps({"size": len(content)}))
    assert pull(server.url).digest == digest
    assert server.asked == [(FILE, f"bytes={len(content)}-", None)]


@pytest.mark.parametrize(
    "faults",
    [
        [500],
        [429, 503],
        [("cut", 900), "whole"],
        [("cut", 0), ("cut", 900), 500],
        [("longer", 10)],
        [("cut", 900), ("longer", 10)],
    ],
)
def test_passing_faults_are_tried_again(new_store: Path, server: Server, digest: str, faults: list[Any]) -> None:
    server.faults = faults
    assert pull(server.url).digest == digest
    assert files(new_store / ".cache") == []


def test_a_server_that_announces_too_little_gives_a_broken_file(new_store: Path, server: Server, digest: str) -> None:
    """The file seems complete, and is then refused. The next call downloads it again."""
    server.faults = [("shorter", 100)]
    with pytest.raises(DataError, match="cannot be read as HDF5"):
        pull(server.url)
    assert files(new_store) == []
    assert pull(server.url).digest == digest


def test_a_login_page_is_refused(new_store: Path, server: Server, folder: Path, digest: str) -> None:
    """What a portal answers to everything."""
    content = (folder / FILE).read_bytes()
    (folder / FILE).write_text("<html>please log in</html>")
    with pytest.raises(DataError, match=r"hopper_medium-v2.hdf5 cannot be read as HDF5"):
        pull(server.url)
    assert files(new_store) == []
    (folder / FILE).write_bytes(content)
    assert pull(server.url).digest == digest


@pytest.mark.parametrize(
    ("fault", "said", "tries"),
    [
        (403, r"access refused \(403\); copy the file from elsewhere and give its folder: .* --from FOLDER", 1),
        (404, r"no such file \(404\); is the base address right\? --from or BACKBENCH_D4RL gives another one", 1),
        (500, "the server answered 500, 4 times in a row", 4),
        (429, "the server answered 429, 4 times in a row", 4),
        (("hang", 0.4), "no answer within 0.1 seconds, 4 times in a row", 4),
        (("stall", 0.4), "no answer within 0.1 seconds, 4 times in a row; the part so far is kept", 4),
    ],
)
def test_a_refusal_is_one_line(
    new_store: Path, server: Server, monkeypatch: pytest.MonkeyPatch, fault: Any, said: str, tries: int
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.1)
    server.faults = [fault] * 8
    with pytest.raises(DataError, match=said) as caught:
        pull(server.url)
    assert str(caught.value).startswith(f"{server.url}/{FILE}: ")
    assert "\n" not in str(caught.value)
    assert len(server.asked) == tries
    assert store.names() == []
    if isinstance(fault, int):
        assert files(new_store) == []


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def test_a_refused_connection_is_reported_at_once(new_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(download.time, "sleep", slept.append)
    port = closed_port()
    with pytest.raises(DataError) as caught:
        pull(f"http://127.0.0.1:{port}")
    assert str(caught.value) == f"http://127.0.0.1:{port}/{FILE}: connection failed (Connection refused){OFFLINE}"
    assert slept == []
    assert files(new_store) == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(101, "Network is unreachable"), "connection failed (Network is unreachable)"),
        (OSError(113, "No route to host"), "connection failed (No route to host)"),
        (socket.gaierror(-2, "Name or service not known"), "no network, or no such host"),
        (TimeoutError("timed out"), "no answer within 2 seconds"),
    ],
)
def test_no_network_is_said_at_once(new_store: Path, monkeypatch: Any, error: OSError, said: str) -> None:
    def fail(address: Any, timeout: float, *_: Any) -> None:
        assert timeout == download.CONNECT == 2.0
        raise error

    slept: list[float] = []
    monkeypatch.setattr(download.time, "sleep", slept.append)
    monkeypatch.setattr(socket, "create_connection", fail)
    with pytest.raises(DataError) as caught:
        pull("")
    assert str(caught.value) == f"{d4rl.PUBLIC}/{FILE}: {said}{OFFLINE}"
    assert slept == []
    assert files(new_store) == []


def test_a_host_that_does_not_answer_is_given_up_soon(new_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue of connections that is full: what comes then waits. The patience with an answer is another."""
    monkeypatch.setattr(download, "CONNECT", 0.2)
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        began = time.monotonic()
        with pytest.raises(DataError, match=r"no answer within 0.2 seconds; with no network, copy the file"):
            pull(f"http://127.0.0.1:{full.getsockname()[1]}")
        assert time.monotonic() - began < 2
    monkeypatch.undo()
    assert (download.CONNECT, download.TIMEOUT) == (2.0, 30.0)


def test_a_slow_server_is_waited_for(new_store: Path, server: Server, digest: str, monkeypatch: Any) -> None:
    """It was reached: only the connecting has to be quick."""
    monkeypatch.setattr(download, "CONNECT", 0.2)
    server.faults = [("hang", 0.5)]
    assert pull(server.url).digest == digest
    assert len(server.asked) == 1


def test_a_network_that_returns_resumes_the_download(
    new_store: Path, server: Server, digest: str, monkeypatch: Any
) -> None:
    """In the middle of a file even an unknown host is tried again."""
    server.faults = [("cut", 900)]
    real, errors = socket.create_connection, [None, OSError(101, "Network is unreachable"), socket.gaierror(-3, "no")]

    def flaky(*arguments: Any) -> Any:
        error = errors.pop(0) if errors else None
        if error is not None:
            raise error
        return real(*arguments)

    monkeypatch.setattr(socket, "create_connection", flaky)
    assert pull(server.url).digest == digest
    assert [wanted for _, wanted, _ in server.asked] == [None, "bytes=900-"]
    assert errors == []


def test_a_lost_network_ends_the_download(new_store: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.faults = [("cut", 900)]
    real, calls = socket.create_connection, []

    def once(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) > 1:
            raise OSError(101, "Network is unreachable")
        return real(*arguments)

    monkeypatch.setattr(socket, "create_connection", once)
    with pytest.raises(DataError) as caught:
        pull(server.url)
    assert str(caught.value).endswith(
        "(Network is unreachable), 4 times in a row; the part so far is kept: run the command again" + OFFLINE
    )
    assert len(calls) == 4


def test_a_proxy_is_used(new_store: Path, server: Server, digest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loopback server is asked for a host that there is not."""
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/offline_rl"))
    assert pull("http://d4rl.invalid/offline_rl").digest == digest
    assert server.asked == [(FILE, None, None)]
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    with pytest.raises(DataError, match="Connection refused"):
        pull("http://d4rl.invalid/offline_rl")


@pytest.mark.parametrize(
    "location",
    ["http://name:word@host/x", "http://host/x?key=1", "https://host/x#y", "http:///x", "http://[::1", "ftp://host/x"],
)
def test_addresses_with_credentials_are_refused(new_store: Path, location: str) -> None:
    with pytest.raises(DataError, match=r"^--from: .*without name, password") as caught:
        pull(location)
    assert "word" not in str(caught.value).replace("password", "")
    assert not new_store.exists()


def test_a_failed_write_keeps_the_download(new_store: Path, server: Server, digest: str, monkeypatch: Any) -> None:
    """What was fetched is not to be fetched again for that."""

    def full(*_: Any) -> None:
        raise DataError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(store, "write", full)
        with pytest.raises(DataError, match="no space left"):
            pull(server.url)
    assert files(new_store) == [f".cache/d4rl/hopper_medium-v2/{FILE}"]
    server.asked.clear()
    assert pull(server.url).digest == digest
    assert server.asked == []


def test_a_pull_that_fails_keeps_the_old_set(new_store: Path, folder: Path, digest: str) -> None:
    pull(folder)
    arrays = {name: array.copy() for name, array in ARRAYS.items()}
    arrays["actions"][40, 1] = np.nan
    write(folder / FILE, arrays)
    with pytest.raises(DataError, match="'actions' is NaN or infinite in episode 2, step 9"):
        pull(folder)
    assert store.read(NAME).digest == digest
    assert [p.name for p in new_store.iterdir()] == ["d4rl"]


def process(url: str) -> subprocess.Popen[str]:
    code = (
        "from backbench.benchmarks.data import store; from backbench.benchmarks.data.sources import Pull, d4rl; "
        f"d4rl.SOURCE.fetch({NAME!r}, Pull({url!r}, report=id)); print(store.load({NAME!r}).digest)"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_a_second_process_is_refused(new_store: Path, server: Server, digest: str) -> None:
    """The second one says so, and does not disturb the first; another set is no trouble."""
    going, go = threading.Event(), threading.Event()
    server.faults = [("call", lambda: (going.set(), go.wait(30)))]
    first = process(server.url)
    try:
        assert going.wait(30)
        with pytest.raises(DataError, match=r"hopper_medium-v2 is in use by process \d+ on \S+; wait until it is done"):
            pull(server.url)
        write(server.folder / "hopper_random-v2.hdf5", ARRAYS)
        assert pull(server.url, "d4rl/hopper/random-v2").digest == digest
        go.set()
        out, _ = first.communicate(timeout=60)
    finally:
        go.set()
        first.kill()
        first.wait()
    assert (first.returncode, out.strip()) == (0, digest)
    assert pull(server.url).digest == digest


def test_a_killed_download_resumes(new_store: Path, server: Server, folder: Path) -> None:
    """What it left is continued, and is not taken for whole."""
    arrays = episodes([900, 1000], [True, False])
    write(folder / FILE, arrays)
    part = cache(new_store) / f"{FILE}.part"
    server.faults = [("stall", 3.0)]
    victim = process(server.url)
    try:
        for _ in range(3000):
            if part.is_file() and part.stat().st_size:
                break
            time.sleep(0.01)
        victim.send_signal(signal.SIGKILL)
    finally:
        victim.kill()
        victim.wait()
    left = part.stat().st_size
    assert 0 < left < (folder / FILE).stat().st_size
    kept = [Path(name).name for name in files(new_store) if not name.endswith("claim.json")]
    assert kept == [f"{FILE}.part", f"{FILE}.part.json"]
    assert store.names() == []
    assert np.array_equal(pull(server.url).states, arrays["observations"])
    assert [wanted for _, wanted, _ in server.asked] == [None, f"bytes={left}-"]
    assert [p.name for p in new_store.iterdir()] == ["d4rl"]
