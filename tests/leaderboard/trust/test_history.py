"""Records are only added: seen in a real repository, also where the sums and the pages were made anew."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from backbench.leaderboard.__main__ import main
from backbench.leaderboard.record.files import RecordError
from backbench.leaderboard.trust.history import not_only_added

NOBODY = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false"]


def git(where: Path, *words: str) -> None:
    subprocess.run(["git", *NOBODY, *words], cwd=where, check=True, capture_output=True)


def commit(where: Path) -> None:
    git(where, "add", "--all")
    git(where, "commit", "--quiet", "--message", "x")


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """A folder of two files in a repository, below another folder, on branch ``main``."""
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    folder = tmp_path / "leaderboard" / "records"
    (folder / "d4rl").mkdir(parents=True)
    for name in ("README.md", "d4rl/a.json", "d4rl/b.json"):
        (folder / name).write_text("1\n")
    commit(tmp_path)
    return folder


def test_what_is_added_may_be(records: Path) -> None:
    (records / "d4rl" / "c.json").write_text("2\n")
    (records / "README.md").write_text("2\n")
    assert not_only_added(records, "main") == []
    commit(records)
    assert not_only_added(records, "main~1") == []


def test_what_was_changed_or_taken_away_is_named(records: Path) -> None:
    (records / "d4rl" / "a.json").write_text("2\n")
    (records / "d4rl" / "b.json").unlink()
    for revision in ("main", "main~1"):
        changed, gone = not_only_added(records, revision)
        assert changed.startswith(f"{records / 'd4rl' / 'a.json'}: was changed since {revision}; ")
        assert gone.startswith(f"{records / 'd4rl' / 'b.json'}: was taken away since {revision}; ")
        if revision == "main":
            commit(records)


def test_a_record_under_another_name_was_taken_away(records: Path) -> None:
    (records / "d4rl" / "a.json").rename(records / "d4rl" / "z.json")
    commit(records)
    (line,) = not_only_added(records, "main~1")
    assert "a.json: was taken away" in line


def test_what_others_added_meanwhile_is_not_missed(records: Path) -> None:
    git(records, "switch", "--quiet", "--create", "branch")
    (records / "d4rl" / "mine.json").write_text("2\n")
    commit(records)
    git(records, "switch", "--quiet", "main")
    (records / "d4rl" / "theirs.json").write_text("3\n")
    commit(records)
    git(records, "switch", "--quiet", "branch")
    assert not_only_added(records, "main") == []


@pytest.mark.parametrize("revision", ["nothing-of-this-name", "--output=x", ""])
def test_an_unknown_revision_is_one_line(records: Path, revision: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(records.rglob("*"))
    with pytest.raises(RecordError, match="--since"):
        not_only_added(records, revision)
    assert main(["check", str(records), f"--since={revision}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert sorted(records.rglob("*")) == before


def test_outside_a_repository_and_without_git(
    tmp_path: Path, records: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / ".git").rename(tmp_path / "elsewhere")
    with pytest.raises(RecordError, match=r"(?i)not a git repository"):
        not_only_added(records, "main")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RecordError, match="needs git"):
        not_only_added(records, "main")
