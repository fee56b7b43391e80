"""Names of processes, and files that are theirs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backbench import files, owner


def test_a_process_knows_itself_and_its_children() -> None:
    assert re.fullmatch(owner.PATTERN, owner.me())
    assert owner.lives(owner.me()) is True
    code = "from backbench import owner; print(owner.me(), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        name = child.stdout.readline().strip()
        assert owner.lives(name) is True
        child.kill()
        deadline = time.monotonic() + 10
        while owner.lives(name) and time.monotonic() < deadline:  # it is a zombie until we wait for it
            time.sleep(0.01)
        assert owner.lives(name) is False


def test_a_fork_has_a_name_of_its_own() -> None:
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.write(write, owner.me().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 100).decode().split("-")[1] == f"{child:x}"
    os.close(read)
    os.close(write)


def test_a_later_process_with_the_same_id_is_another_one() -> None:
    machine, pid, start = owner.me().split("-")
    assert owner.lives(f"{machine}-{pid}-{int(start, 16) + 1:x}") is False


@pytest.mark.parametrize("name", ["", "x", "00000000-1-1", "../../etc", "0" * 5000, "deadbeef-ffffffffff-1"])
def test_nothing_is_known_of_other_machines(name: str) -> None:
    assert owner.lives(name) is None


def test_leftovers_of_dead_processes_are_cleared_and_others_stay(tmp_path: Path) -> None:
    machine, pid, _ = owner.me().split("-")
    mine = tmp_path / files.temporary_name("record.json")
    dead = tmp_path / f".record.json.{machine}-{pid}-1.00000000.tmp"
    folder = tmp_path / f".making.{machine}-{pid}-1.00000000.tmp"
    elsewhere, old = (tmp_path / f".a.00000000-1-1.0000000{n}.tmp" for n in (0, 1))
    theirs = tmp_path / ".notes.tmp"
    folder.mkdir()
    for path in (mine, dead, elsewhere, old, theirs, folder / "part"):
        path.touch()
    os.utime(old, (1, 1))
    files.clear_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([mine, elsewhere, theirs])


def test_a_long_name_still_has_a_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / ("k" * 250)
    files.write_whole(path, "whole")
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_content_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half", encoding="utf-8")
        raise ValueError("no more")

    (tmp_path / "a").write_text("old", encoding="utf-8")
    for write in (files.write_whole, files.create_whole):
        with pytest.raises(ValueError, match="no more"):
            write(tmp_path / "a", fail)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]
