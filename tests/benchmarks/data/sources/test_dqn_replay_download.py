"""The logs of DQN-replay over HTTP: the same set as from a folder, whatever happens on the way."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from replay_logs import Server, agent, name_of, serving, write

from backbench.benchmarks.data import download, store
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.sources import Pull, dqn_replay
from backbench.benchmarks.data.sources.dqn_select import Choice
from backbench.claims import alone

CHOICE = Choice(60, trajectories_per_buffer=2, buffers=2)
NAME = CHOICE.data_id("breakout")
FRAMES, ACTIONS = name_of("observation", 49), name_of("action", 49)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(download, "BLOCK", 500)
    monkeypatch.setattr(download, "TIMEOUT", 5.0)
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two buffers below ``dqn``; the choice needs both."""
    root = tmp_path_factory.mktemp("bucket")
    write(root / "dqn" / "Breakout" / "1" / "replay_logs", agent([8] * 40, 100, 48))
    return root


@pytest.fixture
def server(logs: Path) -> Iterator[Server]:
    with serving(logs / "dqn") as running:
        yield running


@pytest.fixture(scope="module")
def digest(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of the set from the folder, made in another store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("other")))
        made: str = pull(str(logs)).digest
        return made


def pull(location: str, keep: bool = False) -> Any:
    return pull_reporting(location, lambda line: None, keep)


def pull_reporting(location: str, report: Any, keep: bool = False) -> Any:
    dqn_replay.SOURCE.fetch(NAME, Pull(location, keep, choice=CHOICE, report=report))
    return store.read(NAME)


def cache(root: Path) -> Path:
    return root / dqn_replay.CACHE / "Breakout" / "1"


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []


SMALL = sorted(name_of(kind, n) for kind in ("action", "reward", "terminal") for n in (48, 49))


def test_a_download_gives_the_same_set_as_a_folder(new_store: Path, server: Server, digest: str) -> None:
    lines: list[str] = []
    made = pull_reporting(server.url + "/", lines.append)
    assert made.digest == digest == store.read(NAME).digest
    assert store.sidecar(NAME)["origin"]["location"] == f"{server.url}/Breakout/1/replay_logs"
    assert sorted(name for name, _ in server.asked) == sorted([*SMALL, FRAMES, name_of("observation", 48)])
    assert files(cache(new_store)) == SMALL, "frames are removed after use, small files stay"
    assert store.names() == [NAME]
    assert any(line.startswith(f"fetched {FRAMES} (") for line in lines)
    assert any(line.startswith("breakout: buffer 49 (2 of 2): ") for line in lines)
    server.asked.clear()
    assert pull(server.url).digest == digest
    assert sorted(name for name, _ in server.asked) == [name_of("observation", 48), FRAMES]


def test_frames_can_be_kept(new_store: Path, server: Server, digest: str) -> None:
    assert pull(server.url, keep=True).digest == digest
    server.asked.clear()
    assert pull(server.url).digest == digest
    assert server.asked == []
    assert files(cache(new_store)) == SMALL


@pytest.mark.parametrize(
    "faults",
    [
        [("cut", 1)],
        [("cut", 600), ("cut", 0), ("cut", 40)],
        [503, ("cut", 700), 429],
        [("cut", 600), "whole"],
        [("cut", 600), ("cut", 100), 500],
        [("cut", 600), ("elsewhere", 9)],
    ],
)
def test_interrupted_downloads_resume(new_store: Path, server: Server, digest: str, faults: list[Any]) -> None:
    server.faults = [None] * len(SMALL) + faults
    assert pull(server.url).digest == digest
    ranges = [wanted for name, wanted in server.asked if name == server.asked[len(SMALL)][0]]
    have, expected = 0, []
    for fault in (*faults, None):
        expected.append(f"bytes={have}-" if have else None)
        if fault == "whole":
            break
        have += fault[1] if isinstance(fault, tuple) and fault[0] == "cut" else 0
    assert ranges == expected
    assert files(cache(new_store)) == SMALL


def test_a_download_gives_up_and_the_next_call_resumes(new_store: Path, server: Server, digest: str) -> None:
    server.faults = [("cut", 20)] * 4
    with pytest.raises(DataError, match=r"ended after 80 of [\d,]+ bytes, 4 times in a row; .* run the command again"):
        pull(server.url)
    (part,) = files(cache(new_store))
    assert part.endswith(".gz.part")
    assert store.names() == []
    server.asked.clear()
    assert pull(server.url).digest == digest
    assert server.asked[0] == (part.removesuffix(".part"), "bytes=80-")
    assert files(cache(new_store)) == SMALL


def test_missing_frames_leave_the_small_files(new_store: Path, server: Server, digest: str) -> None:
    """The small files are there, the set is begun: it goes, what was fetched stays."""
    server.faults = [None] * 6 + [("cut", 300)] * 4
    with pytest.raises(DataError, match="ended after 1,200 of"):
        pull(server.url)
    assert files(cache(new_store)) == sorted([*SMALL, name_of("observation", 48) + ".part"])
    assert [p.name for p in new_store.iterdir() if p.name.startswith(".")] == [dqn_replay.CACHE]
    assert store.names() == []
    assert pull(server.url).digest == digest


def test_a_complete_part_is_used(new_store: Path, server: Server, digest: str, logs: Path) -> None:
    """Killed between the last byte and the new name."""
    cache(new_store).mkdir(parents=True)
    content = (logs / "dqn/Breakout/1/replay_logs" / FRAMES).read_bytes()
    (cache(new_store) / f"{FRAMES}.part").write_bytes(content)
    assert pull(server.url).digest == digest
    assert [(name, wanted) for name, wanted in server.asked if name == FRAMES] == [(FRAMES, f"bytes={len(content)}-")]


def test_a_part_that_is_too_long_is_replaced(new_store: Path, server: Server, digest: str) -> None:
    cache(new_store).mkdir(parents=True)
    (cache(new_store) / f"{FRAMES}.part").write_bytes(b"x" * 10**6)
    assert pull(server.url).digest == digest


def test_a_server_that_announces_too_much_is_asked_again(new_store: Path, server: Server, digest: str) -> None:
    """Asked for the rest, the server says that there is none."""
    server.faults = [("longer", 10)]
    assert pull(server.url).digest == digest
    (name, first), (again, rest) = server.asked[:2]
    assert (name, first) == (again, None)
    assert rest == f"bytes={(cache(new_store) / name).stat().st_size}-"


def test_a_server_that_announces_too_little_gives_a_truncated_file(
    new_store: Path, server: Server, digest: str
) -> None:
    """Nothing tells it from a whole file but its content."""
    server.faults = [("shorter", 10)]
    with pytest.raises(DataError, match="is truncated; get the file again"):
        pull(server.url)
    assert files(cache(new_store)) == []
    assert pull(server.url).digest == digest


@pytest.mark.parametrize(
    ("fault", "said", "tries"),
    [
        (403, r"access refused \(403\); the public bucket has answered 403 since 2025: .* --from FOLDER", 1),
        (404, r"no such file \(404\); is the address of --from right", 1),
        (401, "the server answered 401", 1),
        (500, "the server answered 500, 4 times in a row", 4),
        (503, "the server answered 503, 4 times in a row", 4),
        (("hang", 0.5), "no answer within 0.1 seconds, 4 times in a row", 4),
    ],
)
def test_a_refusal_is_one_line(
    new_store: Path, server: Server, monkeypatch: pytest.MonkeyPatch, fault: Any, said: str, tries: int
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.1)
    server.faults = [fault] * 8
    with pytest.raises(DataError, match=said) as caught:
        pull(server.url)
    message = str(caught.value)
    assert message.startswith(f"{server.url}/Breakout/1/replay_logs/%24store%24_action_ckpt.")
    assert "\n" not in message
    assert len(server.asked) == tries
    assert files(new_store) == []


def test_a_host_that_refuses_connections_is_named(new_store: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(DataError, match=r"connection failed \(Connection refused\), 4 times in a row"):
        pull(f"http://127.0.0.1:{port}")
    assert files(new_store) == []


def test_a_host_that_cannot_be_found_is_said_at_once(new_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network, trying again only takes time; what to do is what to do about the 403."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    slept: list[float] = []
    monkeypatch.setattr(download.time, "sleep", slept.append)
    with pytest.raises(DataError, match=r"no network, or no such host; .* 403 since 2025: .* --from FOLDER"):
        pull("http://logs.invalid")
    assert slept == []
    assert files(new_store) == []


def test_pauses_grow(new_store: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    pauses: list[float] = []
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(new_store))
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    server.faults = [500] * 4
    with pytest.raises(DataError):
        pull(server.url)
    assert pauses == sorted(set(pauses))
    assert len(pauses) == 3
    assert download.TIMEOUT == 30


@pytest.mark.parametrize(("name", "said"), [(ACTIONS, "truncated"), (FRAMES, "truncated")])
def test_a_broken_file_is_downloaded_again(
    new_store: Path, server: Server, digest: str, logs: Path, name: str, said: str
) -> None:
    cache(new_store).mkdir(parents=True)
    whole = (logs / "dqn/Breakout/1/replay_logs" / name).read_bytes()
    (cache(new_store) / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=said):
        pull(server.url)
    assert name not in files(cache(new_store))
    assert pull(server.url).digest == digest


def test_a_second_process_is_refused(new_store: Path, server: Server) -> None:
    with alone(cache(new_store) / ".claim-download"), pytest.raises(DataError, match=r"in use by process \d+ on "):
        pull(server.url)
    assert server.asked == []


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "file" / "store"))
    with pytest.raises(DataError, match=r"cannot write to .*Not a directory"):
        pull(server.url)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_is_named(new_store: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download, "_copy", full)
    with pytest.raises(DataError, match=r"cannot write to .*: No space left on device"):
        pull(server.url)
    assert store.names() == []


@pytest.mark.parametrize(
    "location", ["http://name:word@host/x", "http://host/x?key=1", "https://host/x#y", "http:///x"]
)
def test_addresses_with_credentials_are_refused(new_store: Path, location: str) -> None:
    with pytest.raises(DataError, match="without name, password"):
        pull(location)
    assert not new_store.exists()


def test_the_public_address() -> None:
    assert dqn_replay.PUBLIC == "https://storage.googleapis.com/atari-replay-datasets/dqn"
