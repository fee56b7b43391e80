"""Records are only added or retired: seen in a real repository, even where checksums and pages were rewritten."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from results_folders import results_of, snapshot
from whole_record import NOW, whole_record

from backbench.leaderboard.__main__ import main
from backbench.leaderboard.check import check
from backbench.leaderboard.record.files import Published, RecordError
from backbench.leaderboard.trust.history import not_only_added, read_retired
from backbench.leaderboard.trust.submit import submit

NOBODY = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false"]
VERIFICATION = "d4rl/a.0123abcd.json"
RECORD = whole_record()


def git(where: Path, *words: str) -> None:
    subprocess.run(["git", *NOBODY, *words], cwd=where, check=True, capture_output=True)


def commit(where: Path) -> None:
    git(where, "add", "--all")
    git(where, "commit", "--quiet", "--message", "x")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def published(tmp_path: Path) -> Published:
    """Two records, one verification and an empty list of retired records in a repository, on branch ``main``."""
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    found = Published(tmp_path / "leaderboard" / "published" / "records")
    for name in ("README.md", "d4rl/a.json", "d4rl/b.json"):
        write(found.records / name, "1\n")
    write(found.verifications / VERIFICATION, "2\n")
    write(found.retired, "key,reason,date\n")
    commit(tmp_path)
    return found


def retire(published: Published, *keys: str, reason: str = "the data's version is gone") -> None:
    lines = "".join(f'{key},"{reason}",2026-11-27\n' for key in keys)
    published.retired.write_text(f"key,reason,date\n{lines}")


def test_added_records_are_accepted(published: Published) -> None:
    write(published.records / "d4rl" / "c.json", "2\n")
    write(published.records / "README.md", "2\n")
    assert not_only_added(published, "main") == []
    commit(published.records)
    assert not_only_added(published, "main~1") == []


def test_changed_and_removed_records_are_named(published: Published) -> None:
    a, b = (published.records / "d4rl" / name for name in ("a.json", "b.json"))
    a.write_text("2\n")
    b.unlink()
    for revision in ("main", "main~1"):
        changed, gone = not_only_added(published, revision)
        old = f"git show {revision}:leaderboard/published/records/d4rl"
        assert changed == f"{a}: was changed since {revision}; records are only added: {old}/a.json > {a}"
        assert gone == (
            f"{b}: was removed since {revision}; records are only added: {old}/b.json > {b}, or list it in "
            f"{published.retired} with the reason"
        )
        if revision == "main":
            commit(published.records)


def test_a_changed_and_a_removed_verification_is_named(published: Published) -> None:
    path = published.verifications / VERIFICATION
    path.write_text("3\n")
    assert f"{path}: was changed" in not_only_added(published, "main")[0]
    path.unlink()
    assert f"{path}: was removed" in not_only_added(published, "main")[0]


def test_a_record_that_became_a_link_or_a_folder_is_named(published: Published) -> None:
    for name in ("a.json", "b.json"):
        (published.records / "d4rl" / name).unlink()
    (published.records / "d4rl" / "a.json").symlink_to(published.retired)
    (published.records / "d4rl" / "b.json").mkdir()
    assert ["is no longer a file" in line for line in not_only_added(published, "main")] == [True, True]


def test_a_renamed_record_counts_as_removed(published: Published) -> None:
    (published.records / "d4rl" / "a.json").rename(published.records / "d4rl" / "z.json")
    commit(published.records)
    (line,) = not_only_added(published, "main~1")
    assert "a.json: was removed" in line


def test_records_that_another_branch_added_meanwhile_are_not_missed(published: Published) -> None:
    git(published.records, "switch", "--quiet", "--create", "branch")
    write(published.records / "d4rl" / "mine.json", "2\n")
    commit(published.records)
    git(published.records, "switch", "--quiet", "main")
    write(published.records / "d4rl" / "theirs.json", "3\n")
    commit(published.records)
    git(published.records, "switch", "--quiet", "branch")
    assert not_only_added(published, "main") == []


@pytest.fixture
def moved(tmp_path: Path) -> Published:
    """A repository whose last commit has records outside ``published``, and whose working tree has them inside."""
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    for kind, name in (("records", "d4rl/a.json"), ("records", "d4rl/b.json"), ("verifications", VERIFICATION)):
        write(tmp_path / "leaderboard" / kind / name, f"{name}\n")
    commit(tmp_path)
    found = Published(tmp_path / "leaderboard" / "published" / "records")
    found.records.parent.mkdir()
    for kind in ("records", "verifications"):
        (tmp_path / "leaderboard" / kind).rename(found.records.parent / kind)
    return found


def test_moved_records_with_equal_bytes_are_accepted(moved: Published) -> None:
    assert not_only_added(moved, "main") == []
    commit(moved.records)
    assert not_only_added(moved, "main~1") == []


def test_records_that_changed_or_vanished_in_the_move_are_named(moved: Published) -> None:
    a, b = (moved.records / "d4rl" / name for name in ("a.json", "b.json"))
    a.write_text("other\n")
    b.unlink()
    (moved.verifications / VERIFICATION).unlink()
    changed, gone, verification = not_only_added(moved, "main")
    assert changed.startswith(f"{a}: was changed since main; records are only added: ")
    assert f"git show main:leaderboard/records/d4rl/a.json > {a}" in changed
    assert gone.startswith(f"{b}: was removed")
    assert verification.startswith(f"{moved.verifications / VERIFICATION}: was removed")
    commit(moved.records)
    assert len(not_only_added(moved, "main~1")) == 3


def test_a_removed_record_is_accepted_only_if_it_is_retired(published: Published) -> None:
    (published.records / "d4rl" / "a.json").unlink()
    (published.records / "d4rl" / "b.json").unlink()
    retire(published, "a")
    (line,) = not_only_added(published, "main")
    assert line.startswith(f"{published.records / 'd4rl' / 'b.json'}: was removed since main")
    retire(published, "a", "b")
    assert not_only_added(published, "main") == []
    commit(published.records)
    assert not_only_added(published, "main~1") == []


def test_verifications_of_a_retired_record_may_go_with_it(published: Published) -> None:
    (published.records / "d4rl" / "a.json").unlink()
    (published.verifications / VERIFICATION).unlink()
    retire(published, "a")
    assert not_only_added(published, "main") == []


def test_a_changed_record_is_named_even_if_it_is_retired(published: Published) -> None:
    (published.records / "d4rl" / "a.json").write_text("2\n")
    retire(published, "a")
    (line,) = not_only_added(published, "main")
    assert "a.json: was changed" in line


def test_retired_lines_may_not_be_removed(published: Published) -> None:
    (published.records / "d4rl" / "a.json").unlink()
    retire(published, "a")
    commit(published.records)
    retire(published, "a", "x")
    assert not_only_added(published, "main") == []
    said = f"{published.retired}: its line for a was removed since main; restore the line"
    for text in ("key,reason,date\n", None):
        published.retired.write_text(text) if text else published.retired.unlink()
        assert said in not_only_added(published, "main")
    write(published.records / "d4rl" / "a.json", "1\n")
    assert not_only_added(published, "main") == [said]


def test_the_command_reads_the_list_of_retired_records(
    published: Published, capsys: pytest.CaptureFixture[str]
) -> None:
    (published.records / "d4rl" / "a.json").unlink()
    assert main(["check", str(published.records.parent), "--since=main"]) == 1
    assert "a.json: was removed since main" in capsys.readouterr().out
    retire(published, "a")
    main(["check", str(published.records.parent), "--since=main"])
    assert "was removed" not in capsys.readouterr().out
    published.retired.write_text("key\na\n")
    assert main(["check", str(published.records.parent), "--since=main"]) == 2
    assert capsys.readouterr().err == (
        f"leaderboard: {published.retired}: has no column 'reason'; restore it: git checkout\n"
    )


@pytest.mark.parametrize("revision", ["nothing-of-this-name", "--output=x", ""])
def test_an_unknown_revision_is_one_line(
    published: Published, revision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(published.records.rglob("*"))
    with pytest.raises(RecordError, match="--since"):
        not_only_added(published, revision)
    assert main(["check", str(published.records), f"--since={revision}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert sorted(published.records.rglob("*")) == before


def test_without_repository_or_git_the_error_is_one_line(
    tmp_path: Path, published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / ".git").rename(tmp_path / "elsewhere")
    with pytest.raises(RecordError, match=r"(?i)not a git repository"):
        not_only_added(published, "main")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RecordError, match="needs git"):
        not_only_added(published, "main")


@pytest.fixture
def submitted(tmp_path: Path) -> Published:
    found = Published(tmp_path / "records")
    submit(results_of(tmp_path / "results", RECORD), found.records)
    return found


def problems(submitted: Published) -> list[str]:
    return check(submitted, NOW, pages=False).problems


def test_a_list_is_read_by_key(submitted: Published) -> None:
    assert read_retired(submitted) == {}
    submitted.retired.write_text('date,key,reason\n2026-11-27,a.b,"gone, with its data"\n')
    assert read_retired(submitted) == {"a.b": "gone, with its data"}
    assert problems(submitted) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no column 'key'; restore it: git checkout"),
        ("key,why\n", "has no column 'reason'; restore it: git checkout"),
        ("key,reason\na,\n", "line 2 lacks a key or a reason; write both"),
        ("key,reason\na,x\nb\n", "line 3 lacks a key or a reason; write both"),
        ("key,reason\n,x\n", "line 2 lacks a key or a reason; write both"),
        ("key,reason\na,x\na,y\n", "line 3 lists a again; remove the line"),
        ("key,reason\na,\udcff\n", "is not UTF-8 text; restore it: git checkout"),
    ],
)
def test_a_broken_list_is_one_problem(submitted: Published, text: str, said: str) -> None:
    submitted.retired.write_bytes(text.encode(errors="surrogateescape"))
    assert problems(submitted) == [f"{submitted.retired}: {said}"]


def test_a_published_record_cannot_be_retired(submitted: Published) -> None:
    submitted.retired.write_text(f"key,reason\n{RECORD.key},data gone\n")
    path = submitted.records / "d4rl" / f"{RECORD.key}.json"
    assert problems(submitted) == [
        f"{submitted.retired}: lists {RECORD.key}, and {path} is there; remove the file or the line"
    ]


def test_a_retired_record_is_not_submitted_again(tmp_path: Path) -> None:
    submitted = Published(tmp_path / "board" / "records")
    submitted.records.mkdir(parents=True)
    submitted.retired.write_text(f"key,reason\n{RECORD.key},data gone\n")
    before = snapshot(tmp_path / "board")
    with pytest.raises(RecordError, match="key: the record was retired: data gone; nothing was submitted"):
        submit(results_of(tmp_path / "results", RECORD), submitted.records)
    assert snapshot(tmp_path / "board") == before
