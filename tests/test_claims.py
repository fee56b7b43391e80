"""One process at a time, on any file system; and one record a cell whatever its workers do."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulated_workers import STEPS, World

from backbench import claims, files, owner, storage
from backbench.claims import FILE, Held, Lost, Observer, alone, beating, take

SEARCH = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


@pytest.mark.parametrize("sleepy", [False, True])
@settings(max_examples=50, **SEARCH)
@given(seed=st.integers(0, 2**32), workers=st.integers(2, 4), kill=st.sampled_from([0.0, 0.005, 0.03]))
def test_a_cell_has_one_record_whatever_its_workers_do(
    tmp_path_factory: pytest.TempPathFactory, sleepy: bool, seed: int, workers: int, kill: float
) -> None:
    """Pauses, deaths and clocks that differ. Without pauses a training is never done twice at a time."""
    world = World(tmp_path_factory.mktemp("world"), random.Random(seed), workers, sleepy=sleepy)
    world.run(kill)
    record = world.end()
    assert sum(worker.trained for worker in world.workers) >= STEPS
    if not sleepy:
        assert world.overlaps == 0
    if not sleepy and kill == 0:
        assert sum(worker.trained for worker in world.workers) == STEPS
    assert record.identity.seed in range(workers)


@settings(max_examples=25, **SEARCH)
@given(seed=st.integers(0, 2**32), workers=st.integers(2, 4), kill=st.sampled_from([0.0, 0.005, 0.03]))
def test_a_cell_on_a_server_has_one_record_whatever_its_workers_do(
    tmp_path_factory: pytest.TempPathFactory, seed: int, workers: int, kill: float
) -> None:
    """Pauses, deaths, clocks that differ, requests and answers that are lost; each machine with a mirror of its own."""
    world = World(tmp_path_factory.mktemp("world"), random.Random(seed), workers, sleepy=True, remote=True)
    world.run(kill)
    assert world.end().identity.seed in range(workers)


def test_workers_on_a_server_never_train_a_cell_twice_at_a_time(tmp_path: Path) -> None:
    for seed in range(12):
        world = World(tmp_path / str(seed), random.Random(seed), 3, sleepy=False, remote=True)
        world.run(0.0)
        world.end()
        assert (world.overlaps, sum(worker.trained for worker in world.workers)) == (0, STEPS)


def test_the_simulation_finds_what_it_looks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the second look at others, two workers hold one claim; without create-once, a record changes."""
    monkeypatch.setattr(claims, "_refuse_held", lambda *_: None)
    overlaps = 0
    for seed in range(40):
        world = World(tmp_path / f"a{seed}", random.Random(seed), 3, sleepy=False)
        world.run(0.0)
        overlaps += world.overlaps
    assert overlaps > 0
    monkeypatch.undo()

    def replacing(disk: claims.Disk, path: Path, text: str) -> bool:
        files.write_whole(path, text)
        return True

    monkeypatch.setattr(claims.Disk, "publish", replacing)

    def many() -> None:
        for seed in range(200):
            World(tmp_path / f"b{seed}", random.Random(seed), 4, sleepy=True).run(0.0)

    with pytest.raises(AssertionError, match="the record changed"):
        many()


def test_the_simulation_on_a_server_finds_what_it_looks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the server replaces objects, two workers hold one claim; if only records are replaced, one changes."""

    def replacing(disk: storage.Objects, path: Path, content: bytes) -> bool:
        disk._ask("pipe_file", disk._name(path), content)
        return True

    with monkeypatch.context() as patch:
        patch.setattr(storage.Objects, "_create", replacing)
        overlaps = 0
        for seed in range(20):
            world = World(tmp_path / f"a{seed}", random.Random(seed), 3, sleepy=False, remote=True)
            with suppress(AssertionError):
                world.run(0.0)
            overlaps += world.overlaps
        assert overlaps > 0

    def publishing(disk: storage.Objects, path: Path, text: str) -> bool:
        files.write_whole(path, text)
        return replacing(disk, path, text.encode())

    monkeypatch.setattr(storage.Objects, "publish", publishing)

    def many() -> None:
        for seed in range(200):
            World(tmp_path / f"b{seed}", random.Random(seed), 4, sleepy=True, remote=True).run(0.0)

    with pytest.raises(AssertionError, match="the record changed"):
        many()


def test_a_claim_is_held_until_it_is_released(tmp_path: Path) -> None:
    claim = take(tmp_path / "home")
    with pytest.raises(Held, match=f"process {os.getpid()} on {os.uname().nodename}"):
        take(tmp_path / "home")
    (claim.folder / "state").touch()
    claim.release()
    second = take(tmp_path / "home")
    assert (claim.folder.name, second.folder.name) == ("000001", "000002")
    with pytest.raises(Lost):
        claim.check()
    second.check()
    second.prune("state")
    assert [path.name for path in second.home.iterdir()] == ["000002"]
    second.remove()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Lost):
        second.beat()
    assert list(tmp_path.iterdir()) == [], "a late heartbeat makes no folder"


def test_the_claim_of_a_dead_process_is_free_at_once(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from backbench.claims import take; take(Path(sys.argv[1]))"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert take(tmp_path).folder.name == "000003"


def test_a_stopped_process_keeps_its_claim(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        take(tmp_path / "home")
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.waitpid(child, os.WUNTRACED)
    with pytest.raises(Held, match=f"process {child}"):
        take(tmp_path / "home")
    os.kill(child, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while owner._started(child) is not None and time.monotonic() < deadline:  # a zombie is dead
        time.sleep(0.01)
    assert take(tmp_path / "home").folder.name == "000002"
    os.waitpid(child, 0)


def test_the_claim_of_another_machine_expires_when_its_heart_stops(tmp_path: Path) -> None:
    """On the clock of the process that looks, and no earlier than ``LEASE`` after it has first seen the last beat."""
    now = [1e9]
    here = Observer(clock=lambda: now[0], lives=lambda name: None)
    claim = take(tmp_path, Observer(name=lambda: "00000000-1-1"))
    for _ in range(3):
        claim.beat()
        now[0] += 0.9 * claims.LEASE
        with pytest.raises(Held):
            take(tmp_path, here)
    now[0] += 0.9 * claims.LEASE
    with pytest.raises(Held):
        take(tmp_path, here)
    now[0] += 0.2 * claims.LEASE
    assert take(tmp_path, here).folder.name == "000002"


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", '{"owner": 5, "pid": []}', "[" * 4000, "\xff"])
def test_a_claim_that_says_nothing_is_one_of_another_machine(tmp_path: Path, text: str) -> None:
    now = [0.0]
    here = Observer(clock=lambda: now[0])
    (tmp_path / "000007").mkdir()
    (tmp_path / "000007" / FILE).write_text(text, encoding="latin-1")
    with pytest.raises(Held, match=r"process .* on an unknown machine"):
        take(tmp_path, here)
    now[0] += claims.LEASE
    assert take(tmp_path, here).folder.name == "000008"


def test_epochs_count_on_past_six_digits(tmp_path: Path) -> None:
    (tmp_path / "999999").mkdir()
    (tmp_path / "٠٠٠٠٠٠٧").mkdir()
    first = take(tmp_path)
    assert first.folder.name == "1000000"
    first.check()
    with pytest.raises(Held):
        take(tmp_path)
    (first.folder / "state").touch()
    first.release()
    second = take(tmp_path)
    second.prune("state")
    assert [path.name for path in claims.epochs(tmp_path)] == ["1000001"]
    with pytest.raises(Lost):
        first.check()


def test_a_heart_beats_while_the_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT", 0.01)
    claim = take(tmp_path / "home")
    before = (claim.folder / FILE).read_bytes()
    with beating(claim):
        deadline = time.monotonic() + 10
        while (claim.folder / FILE).read_bytes() == before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert int(json.loads((claim.folder / FILE).read_bytes())["beat"]) >= 1
    assert list(tmp_path.iterdir()) == []


def _count(folder: Path) -> None:
    for _ in range(10):
        with alone(folder / ".claim-count"):
            number = int((folder / "number").read_text(encoding="ascii"))
            time.sleep(0.001)
            (folder / "number").write_text(str(number + 1), encoding="ascii")


def test_processes_count_together_without_losing_a_number(tmp_path: Path) -> None:
    (tmp_path / "number").write_text("0", encoding="ascii")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_count, args=(tmp_path,)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [path.name for path in tmp_path.iterdir()] == ["number"]
    assert (tmp_path / "number").read_text(encoding="ascii") == "60"


def test_nobody_waits_who_does_not_want_to(tmp_path: Path) -> None:
    with alone(tmp_path / "home"), pytest.raises(Held), alone(tmp_path / "home", wait=False):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK])
def test_a_file_system_without_links_creates_files_once_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", no_links)
    assert files.create_whole(tmp_path / "a", "one")
    assert not files.create_whole(tmp_path / "a", "two")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"one")]
    with pytest.raises(Held), alone(tmp_path / "home"), alone(tmp_path / "home", wait=False):
        pass


def test_a_link_whose_answer_was_lost_is_the_callers_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over NFS a request that is sent again finds the file that the first one made."""
    link = os.link

    def twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", twice)
    assert files.create_whole(tmp_path / "a", "one")
