"""Records into the leaderboard: all or none, never one in place of another, each with its sum."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from results_folders import results_of, snapshot
from whole_record import whole_record

from backbench import owner
from backbench.leaderboard.record.files import Published, RecordError
from backbench.leaderboard.trust.submit import place, read_sums, submit, submit_verification


def test_records_are_copied_with_their_sums(tmp_path: Path) -> None:
    one, two = whole_record(), whole_record(seed=1)
    to = tmp_path / "board" / "records"
    done = submit(results_of(tmp_path / "results", one, two), to)
    names = sorted(f"d4rl/{record.key}.json" for record in (one, two))
    assert (list(done.new), list(done.same)) == (names, [])
    for name in names:
        assert (to / name).read_bytes() == (tmp_path / "results" / "records" / Path(name).name).read_bytes()
    lines = [f"{hashlib.sha256((to / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    assert (to / "SHA256SUMS").read_text() == "".join(lines)
    assert sorted(snapshot(to)) == ["SHA256SUMS", *names]
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=to, check=True)


def test_submitting_again_changes_nothing_and_new_records_are_added(tmp_path: Path) -> None:
    to = tmp_path / "records"
    results = results_of(tmp_path / "results", whole_record(seed=4))
    submit(results, to)
    before = snapshot(to)
    again = submit(results / "records", to)
    assert (again.new, len(again.same)) == ((), 1)
    assert snapshot(to) == before
    more = submit(results_of(results, whole_record("gloma"), whole_record(seed=9)), to)
    assert (len(more.new), len(more.same)) == (2, 1)
    assert before.items() - snapshot(to).items() == {("SHA256SUMS", before["SHA256SUMS"])}
    assert len(read_sums(to)) == 3


def test_another_content_is_refused(tmp_path: Path) -> None:
    to = tmp_path / "records"
    submit(results_of(tmp_path / "a", whole_record()), to)
    before = snapshot(to)
    other = results_of(tmp_path / "b", whole_record(scores=(41.0, 50.0, 60.0)), whole_record(seed=2))
    with pytest.raises(RecordError, match=r"s0\.\w+\.json: is there already, with another content; records are only"):
        submit(other, to)
    assert snapshot(to) == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"provenance__git_dirty": True}, "provenance.git_dirty: its code differed from its commit; commit first"),
        ({"provenance__git_dirty": None}, "provenance.git_dirty: its code differed"),
        ({"provenance__git_commit": None}, "provenance.git_commit: its code is not known; run it from a clone"),
        ({"preset": "smoke"}, "identity.preset: smoke measures nothing; --allow-smoke"),
        ({"identity__seed": 3}, "identity.seed: 3, and 0 in provenance.config"),
        ({"provenance__kernels": {"x": "/opt/x.so"}}, "provenance.kernels.x: '/opt/x.so' holds an absolute path"),
        ({"provenance__command": "bench run --on Curie7"}, "provenance.command: holds the name of this machine"),
        ({"identity__backbone": "<b>"}, "identity.backbone: '<b>' is neither"),
    ],
)
def test_unfit_records_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "curie7.example.org")
    results = results_of(tmp_path / "results", whole_record(seed=8), whole_record(**changes))
    with pytest.raises(RecordError) as caught:
        submit(results, tmp_path / "records")
    assert said in str(caught.value)
    assert "nothing was submitted" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "records").exists()


def test_smoke_and_dirty_records_need_their_option(tmp_path: Path) -> None:
    dirty, smoke = whole_record(provenance__git_dirty=True), whole_record(preset="smoke", provenance__git_commit=None)
    results = results_of(tmp_path / "results", dirty, smoke)
    with pytest.raises(RecordError, match=r"\(and 2 more problems in 2 records\)"):
        submit(results, tmp_path / "records")
    done = submit(results, tmp_path / "records", allow_dirty=True, allow_smoke=True)
    assert len(done.new) == 2


def test_a_host_with_the_name_of_a_task_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "hopper")
    record = whole_record(provenance__command="bench run --task hopper")
    assert submit(results_of(tmp_path / "results", record), tmp_path / "records").new


def renamed(path: Path) -> None:
    path.rename(path.with_name("other.json"))


def spaced(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")


def cut(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8")[:500], encoding="utf-8")


def of_tomorrow(path: Path) -> None:
    path.write_text(
        path.read_text(encoding="utf-8").replace('"schema_version": 1', '"schema_version": 2'), encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (renamed, "is not the file's name"),
        (spaced, "is not as bench wrote it"),
        (cut, "is JSON that ends too early"),
        (of_tomorrow, "schema_version: 2 is another version of the schema"),
    ],
)
def test_a_changed_file_is_refused(tmp_path: Path, spoil: Callable[[Path], None], said: str) -> None:
    results = results_of(tmp_path / "results", whole_record(), whole_record(seed=1))
    spoil(next((results / "records").glob("*.s1.*")))
    with pytest.raises(RecordError, match=said):
        submit(results, tmp_path / "records")
    assert not (tmp_path / "records").exists()


def test_an_empty_or_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="there is no such folder; name a folder of results"):
        submit(tmp_path / "none", tmp_path / "records")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".half.json").write_text("{")
    with pytest.raises(RecordError, match="there is no record; run some cells"):
        submit(tmp_path / "empty", tmp_path / "records")


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_an_error_half_way_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    to = tmp_path / "records"
    submit(results_of(tmp_path / "a", whole_record(seed=5)), to)
    results = results_of(tmp_path / "b", whole_record())
    before, real, calls = snapshot(to), os.replace, list[Any]()

    def full(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) == failing:
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        place({f"d4rl/{n}.json": "text" for n in "ab"}, to)
    assert len(calls) == failing
    assert snapshot(to) == before
    monkeypatch.undo()
    assert len(submit(results, to).new) == 1


KILLED = """
import os, sys
from pathlib import Path
from backbench.leaderboard.trust.submit import submit
real, left = os.replace, [2]
def replace(source, target):
    if not left[0]:
        os._exit(9)
    left[0] -= 1
    real(source, target)
os.replace = replace
submit(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_killed_submission_is_noticed_and_completed(tmp_path: Path) -> None:
    from backbench.leaderboard.check import check

    to, results = tmp_path / "records", results_of(tmp_path / "results", *(whole_record(seed=n) for n in range(3)))
    dead = subprocess.run([sys.executable, "-c", KILLED, str(results), str(to)], check=False)
    assert dead.returncode == 9
    problems = check(Published(to), pages=False).problems
    assert sum("is not listed in SHA256SUMS" in line for line in problems) == 2
    assert sum("does not belong here" in line for line in problems) == 2  # a temporary file, and the claim
    theirs = to / "d4rl" / ".notes.tmp"
    theirs.write_text("not ours")
    assert len(submit(results, to).new) == 3
    assert list(to.rglob(".*.tmp")) == [theirs]
    theirs.unlink()
    assert check(Published(to), pages=False).problems == []


def test_leftovers_are_removed_even_if_nothing_is_new(tmp_path: Path) -> None:
    to, results = tmp_path / "records", results_of(tmp_path / "results", whole_record())
    submit(results, to)
    alive, dead = owner.me(), f"{owner.me().rpartition('-')[0]}-1"  # one started at another time has the same id
    (to / "d4rl" / f".x.json.{dead}.{'0' * 8}.tmp").write_text("{")
    (to / f".SHA256SUMS.{dead}.{'0' * 8}.tmp").write_text("")
    (to / f".SHA256SUMS.{alive}.{'0' * 8}.tmp").write_text("")
    assert submit(results, to).new == ()
    assert list(to.rglob(".*")) == [to / f".SHA256SUMS.{alive}.{'0' * 8}.tmp"]


def test_a_second_record_of_a_cell_is_refused(tmp_path: Path) -> None:
    """Its settings are others, and its row does not say so."""
    one = whole_record()
    two = whole_record(config=[("train__lr", 0.1)], provenance__started="2026-02-01T00:00:00Z",
                       provenance__weights_sha256="cd" * 32)  # fmt: skip
    to = tmp_path / "records"
    submit(results_of(tmp_path / "a", one), to)
    before = snapshot(to)
    said = rf"records: {two.key} is the same cell of the board as {one.key}; remove one of the two; nothing was"
    for folder, records in (("b", [two, whole_record(seed=1)]), ("c", [one, two])):
        with pytest.raises(RecordError, match=said):
            submit(results_of(tmp_path / folder, *records), to)
        assert snapshot(to) == before
    with pytest.raises(RecordError, match=said.removeprefix("records: ")):
        submit(tmp_path / "c", tmp_path / "empty")
    assert snapshot(tmp_path / "empty") == {}
    # Data made anew are another experiment, and a broken neighbour is for check to name.
    (to / "d4rl" / "broken.json").write_text("{")
    other = whole_record(config=[("train__lr", 0.1)], identity__data__sha256="0" * 64,
                         provenance__weights_sha256="cd" * 32)  # fmt: skip
    assert len(submit(results_of(tmp_path / "d", other), to).new) == 1


@pytest.mark.parametrize("name", ["d4rl", "SHA256SUMS", "record"])
def test_nothing_is_written_through_a_link(tmp_path: Path, name: str) -> None:
    to, record = tmp_path / "records", whole_record()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = to / (f"d4rl/{record.key}.json" if name == "record" else name)
    link.parent.mkdir(parents=True)
    if name == "SHA256SUMS":
        (elsewhere / name).write_text("")
    link.symlink_to(elsewhere / (name if name == "SHA256SUMS" else ""))
    before = snapshot(elsewhere)
    with pytest.raises(RecordError) as caught:
        submit(results_of(tmp_path / "results", record), to)
    assert str(caught.value) == f"{link}: is a link; put what it leads to in its place; nothing was submitted"
    assert snapshot(elsewhere) == before
    assert link.is_symlink()


def test_published_files_must_match_their_checksums(tmp_path: Path) -> None:
    to, results = tmp_path / "records", results_of(tmp_path / "results", whole_record())
    submit(results, to)
    (path,) = (to / "d4rl").iterdir()
    path.unlink()
    with pytest.raises(RecordError, match="is not as SHA256SUMS has it; restore it: git checkout; nothing was"):
        submit(results, to)
    (to / "SHA256SUMS").write_text("what\n")
    with pytest.raises(RecordError, match="SHA256SUMS: line 1 is no hash, two spaces and a path"):
        submit(results, to)


def test_a_verification_is_named_by_its_hash(tmp_path: Path) -> None:
    other = whole_record(provenance__hardware__cpu="Another CPU")
    done = submit_verification(other, tmp_path / "verifications")
    (name,) = done.new
    digest = hashlib.sha256((tmp_path / "verifications" / name).read_bytes()).hexdigest()
    assert name == f"d4rl/{other.key}.{digest[:8]}.json"
    assert read_sums(tmp_path / "verifications") == {name: digest}
    third = whole_record(provenance__hardware__cpu="A third CPU")
    assert len(submit_verification(third, tmp_path / "verifications").new) == 1
    with pytest.raises(RecordError, match="git_dirty"):
        submit_verification(whole_record(provenance__git_dirty=True), tmp_path / "verifications")


def test_a_suite_that_cannot_name_a_folder_is_refused(tmp_path: Path) -> None:
    for suite in ("../up", "a/b", ".hidden"):
        record = whole_record(identity__suite=suite, config=[("task__suite", suite)])
        with pytest.raises(RecordError, match="is no name of a folder"):
            submit(results_of(tmp_path / suite.replace("/", "_"), record), tmp_path / "records")
    assert not (tmp_path / "records").exists()


def test_bench_submit_reports_new_and_known_records(tmp_path: Path, bench: Callable[..., Any]) -> None:
    results_of(tmp_path / "results", whole_record())
    done = bench("submit", "results", "--to", "board/records")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1] == "1 records submitted, 0 were there already; next: make leaderboard"
    again = bench("submit", "results", "--to", "board/records")
    assert again.out == "0 records submitted, 1 were there already\n"
    refused = bench("submit", "nowhere")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
