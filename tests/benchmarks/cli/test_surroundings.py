"""Commands in unfriendly surroundings: hostile names, other encodings, narrow terminals, readers that leave."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench_calls import Call
from record_factory import make_record
from results_folders import results_of

from backbench.benchmarks.cli.app import main

BENCH = str(Path(sys.executable).with_name("bench"))
HOSTILE = "[/red][bold] :Dragon: \x1b[2J \u202e evil \u200b <script>|=cmd()"
# A locale of ASCII, which Python does not replace by UTF-8.
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""}


def folder(path: Path) -> Path:
    return results_of(
        path,
        make_record(HOSTILE, seed=0),
        make_record("mlp", seed=0),
        make_record("identity", seed=1, failed=f"it said {HOSTILE}"),
    )


@pytest.mark.parametrize("format_", ["terminal", "markdown", "csv", "json"])
def test_no_format_of_the_board_obeys_a_name(call: Call, tmp_path: Path, format_: str) -> None:
    folder(tmp_path / "results")
    answer = call("leaderboard", "--format", format_)
    assert (answer.code, answer.err) == (0, "")
    assert all(char.isprintable() or char in "\r\n" for char in answer.out)
    assert "evil" in answer.out
    if format_ == "csv":
        assert all(len(row) > 20 for row in csv.reader(io.StringIO(answer.out)))
    if format_ == "json":
        (section,) = json.loads(answer.out)["sections"]
        assert HOSTILE in [row["backbone"] for row in section["rows"]]


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--backbone", HOSTILE], ["run", "--backbone", "mlp", "--suite", HOSTILE],
        ["run", "--backbone", "mlp", "--preset", HOSTILE], ["run", "--backbone", "mlp", "--task", HOSTILE],
        ["run", "--backbone", "mlp", HOSTILE], ["run", "--backbone", "mlp", f"train.lr={HOSTILE}"],
        ["run", "--backbone", "mlp", f"{HOSTILE}=1"], ["run", "--backbone", "mlp", "--seeds", HOSTILE],
        [HOSTILE], ["check", HOSTILE], ["list", HOSTILE],
        ["check", f"./{HOSTILE}.py:X"], ["data", "show", HOSTILE], ["data", "make", HOSTILE],
        ["data", "verify", HOSTILE],
        ["data", "remove", HOSTILE], ["data", "pull", HOSTILE], ["leaderboard", HOSTILE], ["submit", HOSTILE],
        ["leaderboard", "--format", HOSTILE], ["reproduce", HOSTILE], ["watch", HOSTILE], ["ui", "--out", HOSTILE],
    ],
    ids=lambda words: " ".join(words).replace(HOSTILE, "X").replace("/", "-"),
)  # fmt: skip
def test_a_hostile_word_is_one_harmless_line(call: Call, new_store: Path, words: list[str]) -> None:
    answer = call(*words)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("bench: ")
    assert answer.err.count("\n") == 1
    assert answer.err.rstrip("\n").isprintable()


def test_an_ascii_terminal_gets_the_board_and_files_stay_utf_8(bench: Callable[..., Any], tmp_path: Path) -> None:
    folder(tmp_path / "rü")
    shown = bench("leaderboard", "rü", **ASCII)
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.isascii()
    assert " x0." in shown.out or " x1." in shown.out
    written = bench("leaderboard", "rü", "--format", "markdown", "--out", "board-ü.md", **ASCII)
    assert (written.code, written.err) == (0, "")
    assert "×" in (tmp_path / "board-ü.md").read_text(encoding="utf-8")


def test_odd_surroundings_change_no_result(bench: Callable[..., Any], tmp_path: Path) -> None:
    folder(tmp_path / "results")
    for odd in (
        {"TERM": "dumb", "COLUMNS": "1"},
        {"NO_COLOR": "1", "COLUMNS": "20", "TZ": "Nowhere/X", "HOME": "/proc"},
    ):
        answer = bench("leaderboard", **odd)
        assert (answer.code, answer.err) == (0, "")
        assert "\x1b" not in answer.out


def test_head_is_quiet_and_so_is_a_closed_standard_output(tmp_path: Path) -> None:
    folder(tmp_path / "results")
    for line in (">&-", "| true"):
        done = subprocess.run(
            ["bash", "-c", f'set -o pipefail; "$0" leaderboard {line}', BENCH],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), line


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    folder(tmp_path / "results")
    done = subprocess.run(
        ["bash", "-c", '"$0" leaderboard > /dev/full', BENCH], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "bench: No space left on device\n"


def test_an_argument_that_is_no_utf_8_is_one_line(bench: Callable[..., Any], tmp_path: Path) -> None:
    done = subprocess.run([BENCH, "leaderboard", b"\xff"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr == b"bench: '\\udcff' is not UTF-8; rename the file or folder\n"


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_another_system_is_refused_in_one_line(
    system: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("backbench.benchmarks.cli.app.sys.platform", system)
    monkeypatch.setattr("sys.argv", ["bench", "list"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    told = f"bench: Backbench needs Linux, and this is {system}; run it in a container (Dockerfile)\n"
    assert capsys.readouterr().err == told
