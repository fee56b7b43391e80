"""Results on a server of objects: what is pulled, created once, lost and refused."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from record_factory import make_record

from backbench import claims, storage
from backbench.benchmarks.api.agents import load_agent
from backbench.benchmarks.api.status import note_plan, report
from backbench.benchmarks.run import results as files
from backbench.benchmarks.run import runner
from backbench.benchmarks.run.cell import run_cell
from backbench.benchmarks.run.checkpoint import Checkpoints
from backbench.benchmarks.run.evaluate import Interrupted
from backbench.benchmarks.run.executors import Job
from backbench.benchmarks.run.executors.inline import InlineExecutor
from backbench.claims import FILE, Held, Lost
from backbench.errors import UserError
from backbench.leaderboard.record.files import canonical


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An address of its own in fsspec's memory; mirrors are in the test's folder."""
    monkeypatch.setenv("BACKBENCH_MIRRORS", str(tmp_path / "here"))
    name = f"test-{uuid.uuid4().hex}"
    yield f"memory://{name}"
    for key in [key for key in MemoryFileSystem.store if key.startswith(f"/{name}/")]:
        del MemoryFileSystem.store[key]


def objects(url: str) -> dict[str, bytes]:
    start = f"/{url.removeprefix('memory://')}/"
    there = {key: value for key, value in MemoryFileSystem.store.items() if key.startswith(start)}
    return {key.removeprefix(start): bytes(value.getvalue()) for key, value in there.items()}


def put(url: str, name: str, content: bytes) -> None:
    MemoryFileSystem().pipe_file(f"/{url.removeprefix('memory://')}/{name}", content)


def elsewhere(tmp_path: Path, url: str) -> claims.Observer:
    """Another machine: its own mirror, and no knowledge of processes here."""
    disk = storage.Objects(url, tmp_path / "there")
    return claims.Observer(lambda: "00000000-1-1", time.monotonic, lambda _: None, disk)


def test_records_are_pulled_and_those_that_were_removed_go(url: str) -> None:
    put(url, "records/a.json", b"{}")
    put(url, "records/.hidden.json", b"{}")
    put(url, "checkpoints/a/last.safetensors", b"weights")
    root = storage.pull(url)
    assert [path.name for path in root.rglob("*.*") if path.is_file()] == ["a.json"]
    assert storage.name(root) == url
    MemoryFileSystem().rm_file(f"/{url.removeprefix('memory://')}/records/a.json")
    assert list(storage.pull(Path(url)).rglob("*.json")) == []


@pytest.mark.parametrize(
    ("where", "said"),
    [("s3://key:secret@bucket/a", "leave credentials out of the address"), ("nosuch://bucket/a", "nosuch")],
)
def test_an_address_that_cannot_be_used_is_one_line(url: str, where: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        storage.pull(where)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_outside_the_mirror_are_not_written(url: str, tmp_path: Path) -> None:
    for name in ("records/../../x.json", "checkpoints/../000001/claim.json", "records/a/b.json"):
        put(url, name, b"{}")
    root = storage.pull(url, claims=True)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [storage.MARK]
    assert root.is_dir()


def test_a_claim_on_a_server_holds_everywhere_and_epochs_are_used_once(url: str, tmp_path: Path) -> None:
    here, there = storage.observer(storage.folder(url)), elsewhere(tmp_path, url)
    now = [0.0]
    there.clock = lambda: now[0]
    mine, theirs = storage.folder(url) / "checkpoints/k", tmp_path / "there/checkpoints/k"
    first = claims.take(mine, here)
    with pytest.raises(Held, match=f"process {os.getpid()}"):
        claims.take(theirs, there)
    first.release()
    second = claims.take(theirs, there)
    assert second.folder.name == "000002"
    with pytest.raises(Held):
        claims.take(mine, here)
    with pytest.raises(Lost):
        first.beat()
    second.release()
    assert claims.take(mine, here).folder.name == "000003"


def test_a_silent_claim_is_taken_over_and_its_late_owner_harms_nothing(url: str, tmp_path: Path) -> None:
    here, there = storage.observer(storage.folder(url)), elsewhere(tmp_path, url)
    now = [0.0]
    there.clock = lambda: now[0]
    home = tmp_path / "there/checkpoints/k"
    first = claims.take(storage.folder(url) / "checkpoints/k", here)
    for _ in range(3):
        now[0] += 0.9 * claims.LEASE
        with pytest.raises(Held):
            claims.take(home, there)
        first.beat()
    with pytest.raises(Held):
        claims.take(home, there)
    now[0] += 1.1 * claims.LEASE
    assert claims.take(home, there).folder.name == "000002"
    before = objects(url)
    for late in (first.beat, first.check):
        with pytest.raises(Lost):
            late()
    first.release()
    after = objects(url)
    assert [key for key in before if after[key] != before[key]] == ["checkpoints/k/000001/claim.json"]


def test_a_create_whose_answer_was_lost_finds_its_own_object(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = storage.disk(storage.folder(url))
    path = storage.folder(url) / "records/a.json"
    whole, calls = storage._bounded, list[int]()

    def lossy(act: Callable[[], Any], seconds: float) -> Any:
        answer = whole(act, seconds)
        calls.append(1)
        if len(calls) == 1:
            raise OSError("connection reset")
        return answer

    monkeypatch.setattr(storage, "_bounded", lossy)
    monkeypatch.setattr(storage, "PAUSES", (0.0, 0.0))
    assert disk.publish(path, "mine")
    assert not disk.publish(path, "another's")
    assert path.read_text(encoding="utf-8") == "mine"


def test_a_claim_without_an_answer_does_not_block_its_own_process(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = storage.folder(url)
    whole = storage._bounded

    def deaf(act: Callable[[], Any], seconds: float) -> Any:
        whole(act, seconds)
        raise TimeoutError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(storage.Objects, "epochs", lambda *_: [])
        patch.setattr(storage, "_bounded", deaf)
        with pytest.raises(storage.StorageError, match="no answer"):
            claims.take(root / "checkpoints/k", storage.observer(root))
    assert claims.take(root / "checkpoints/k", storage.observer(root)).folder.name == "000002"


def test_a_server_that_does_not_create_once_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def overwrite(self: Any, path: str, value: bytes, mode: str = "", **_: Any) -> None:
        self.open(path, mode="wb", data=value)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", overwrite)
    with pytest.raises(UserError, match="does not create an object once"):
        storage.disk(storage.folder(url)).probe()


def test_a_silent_server_is_one_line_in_bounded_time(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PATIENCE", 0.05)
    monkeypatch.setattr(MemoryFileSystem, "find", lambda *_, **__: time.sleep(1))
    monkeypatch.setattr(storage.Objects._ask, "__kwdefaults__", {"seconds": 0.05})
    with pytest.raises(storage.StorageError, match=r"no answer within 0 s; check the address"):
        storage.pull(url)


def test_a_cell_that_stops_here_ends_elsewhere_with_equal_bits(
    hopper_store: Path, tiny_cell: Callable[..., Any], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checkpoint travels, the record is created once, and epochs are over."""
    cell, seen = tiny_cell(), list[dict[str, Any]]()
    whole = run_cell(cell, tmp_path / "whole", "cpu")
    root = storage.pull(url)
    with pytest.raises(Interrupted):
        run_cell(cell, root, "cpu", seen.append, lambda: any(said["step"] >= 15 for said in seen))
    assert f"checkpoints/{cell.key}/000001/state.pt" in objects(url)
    monkeypatch.setenv("BACKBENCH_MIRRORS", str(tmp_path / "there"))
    other, heard = storage.pull(url), list[dict[str, Any]]()
    record = run_cell(cell, other, "cpu", heard.append)
    assert min(said["step"] for said in heard) > 10, "resumed"
    assert record.provenance.weights_sha256 == whole.provenance.weights_sha256
    names = ("best.safetensors", "last.safetensors")
    assert sorted(objects(url)) == [*(f"checkpoints/{cell.key}/{one}" for one in names), f"records/{cell.key}.json"]
    monkeypatch.setenv("BACKBENCH_MIRRORS", str(tmp_path / "third"))
    assert load_agent(f"{url}/records/{cell.key}.json").cell.key == cell.key
    assert load_agent(cell.key, url).cell.key == cell.key
    outcome = runner.run([cell], Job(storage.folder(url), "cpu"), InlineExecutor())
    assert [one.key for one in outcome.done] == [cell.key]


def test_the_second_record_of_a_cell_becomes_the_first(url: str, tmp_path: Path, tiny_cell: Callable[..., Any]) -> None:
    cell = tiny_cell()
    root = storage.folder(url)
    claim = files.claim(cell, root)
    first, second = (make_record(seed=seed) for seed in (0, 1))
    put(url, f"records/{cell.key}.json", canonical(first).encode())
    assert files.accept(cell, root, second, claim) == first
    assert cell.record_path(root).read_text(encoding="utf-8") == canonical(first)


def test_a_cell_goes_on_while_the_server_is_away_and_catches_up(
    url: str, tiny_cell: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cell, root = tiny_cell(), storage.folder(url)
    claim = files.claim(cell, root)
    checkpoints = Checkpoints(claim)
    checkpoints.save({"step": 1})

    def away(*_: Any) -> Any:
        raise OSError("unreachable")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "_bounded", away)
        patch.setattr(storage, "PAUSES", (0.0, 0.0))
        checkpoints.save_weights("best.safetensors", {}, {})
        checkpoints.save({"step": 2})
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "unreachable" in said
    assert "the cell goes on" in said
    checkpoints.save({"step": 3})
    there = objects(url)
    assert there[f"checkpoints/{cell.key}/000001/state.pt"] == (claim.folder / "state.pt").read_bytes()
    assert f"checkpoints/{cell.key}/000001/best.safetensors" in there


def test_a_damaged_checkpoint_on_the_server_is_passed_over(
    url: str, tiny_cell: Callable[..., Any], tmp_path: Path
) -> None:
    cell, root = tiny_cell(), storage.folder(url)
    claim = files.claim(cell, root)
    Checkpoints(claim).save({"step": 7})
    claim.release()
    put(url, f"checkpoints/{cell.key}/000002/{FILE}", b'{"state": "free"}')
    put(url, f"checkpoints/{cell.key}/000002/state.pt", b"half of a checkpoi")
    other = elsewhere(tmp_path, url)
    taken = claims.take(tmp_path / "there/checkpoints" / cell.key, other)
    found = Checkpoints(taken).load()
    assert found is not None
    assert (found[0].parent.name, found[1]["step"]) == ("000001", 7)


def test_status_shows_what_other_machines_run(url: str, tiny_cell: Callable[..., Any], tmp_path: Path) -> None:
    cell, root = tiny_cell(), storage.folder(url)
    note_plan([cell], root, ["bench", "run", "--out", url])
    claims.take(tmp_path / "there/checkpoints" / cell.key, elsewhere(tmp_path, url))
    lines = list(report(storage.pull(url, claims=True)))
    assert lines[1] == "  1 cell: 1 running"
