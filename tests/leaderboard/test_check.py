"""What continuous integration finds in a leaderboard that is not as it should be."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_factory import raw_return
from results_folders import results_of
from whole_record import NOW, whole_record

from backbench.benchmarks.cli import app
from backbench.leaderboard.__main__ import main
from backbench.leaderboard.check import Report, check, missing_cells
from backbench.leaderboard.record.files import Published, RecordError, canonical, dump_record, load_record
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.trust.submit import submit, submit_verification
from backbench.leaderboard.views.export import render

RECORDS = [whole_record(name, task, seed) for name in ("mlp", "gloma") for task in ("hopper-medium", "walker2d-medium")
           for seed in (0, 1)]  # fmt: skip
FIRST = f"{RECORDS[0].key}.json"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A leaderboard of eight records with its pages."""
    board = tmp_path_factory.mktemp("made")
    submit(results_of(board.parent / "results", *RECORDS), board / "records")
    render(Published(board / "records"))
    return board


@pytest.fixture
def board(made: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    return shutil.copytree(made, tmp_path / "board")


def look(board: Path, pages: bool = True) -> Report:
    return check(Published(board / "records"), NOW, pages)


def resum(board: Path) -> None:
    """Write the sums anew, as somebody who covers his traces would."""
    folder = board / "records"
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.json"))
    lines = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names]
    (folder / "SHA256SUMS").write_text("".join(lines))


def test_an_untouched_board_has_no_problems(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert look(made) == Report([], [], 8)
    assert main(["check", str(made)]) == 0
    assert capsys.readouterr().out == f"8 records in {made / 'records'}: 0 problems, 0 warnings\n"


@functools.cache
def text_of_first(made: Path) -> bytes:
    return (made / "records" / "d4rl" / FIRST).read_bytes()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_digit_is_found(board: Path, made: Path, data: st.DataObject) -> None:
    text = text_of_first(made)
    places = [number for number, byte in enumerate(text) if chr(byte).isdigit()]
    place = data.draw(st.sampled_from(places))
    digit = data.draw(st.sampled_from([d for d in b"0123456789" if d != text[place]]))
    (board / "records" / "d4rl" / FIRST).write_bytes(text[:place] + bytes([digit]) + text[place + 1 :])
    assert any(FIRST in line and "is not as SHA256SUMS has it" in line for line in look(board, pages=False).problems)


def test_an_edited_score_is_found_by_checksum_and_pages(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Episode, mean and normalised score agree with each other; the sum and the pages do not."""
    path = board / "records" / "d4rl" / FIRST
    content = json.loads(path.read_text())
    score = content["scores"]["last"]["targets"][0]
    score["returns"][0] += 30.0
    score["raw_mean"] = sum(score["returns"]) / 3
    span = raw_return("hopper-medium", 100) - raw_return("hopper-medium", 0)
    score["normalised_mean"] = 100 * (score["raw_mean"] - raw_return("hopper-medium", 0)) / span
    dump_record(Record.model_validate_json(json.dumps(content)), path)

    report = look(board)
    assert report.problems[0] == (
        f"{path}: is not as SHA256SUMS has it: it was changed after it was submitted; restore it: git checkout, "
        "or remove it"
    )
    assert any(
        line.startswith(f"{board / 'pages' / 'board.json'}: is not what the records") for line in report.problems
    )
    assert main(["check", str(board)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("problem: ")
    assert out[-1] == f"8 records in {board / 'records'}: {len(report.problems)} problems, 0 warnings"

    resum(board)  # now the pages alone tell
    assert {line.split(": ")[1].partition(";")[0] for line in look(board).problems} == {"is not what the records make"}


def write(text: str) -> Callable[[Path], None]:
    return lambda path: (path.write_text(text), None)[1]


def replace(old: str, new: str) -> Callable[[Path], None]:
    return lambda path: (path.write_text(path.read_text().replace(old, new, 1)), None)[1]


def aside(path: Path) -> None:
    path.rename(path.with_name("other.json"))


def other_suite(path: Path) -> None:
    (path.parents[1] / "atari").mkdir()
    path.rename(path.parents[1] / "atari" / path.name)


def linked(path: Path) -> None:
    path.rename(path.parents[2] / "real.json")
    path.symlink_to(path.parents[2] / "real.json")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (replace('"schema_version": 1', '"schema_version": 7'), "schema_version: 7 is another version of the schema"),
        (write(""), "is empty"),
        (write("{"), "is JSON that ends too early"),
        (write("{'key': 1}"), "malformed JSON"),
        (write("[]"), "a record is a JSON object, this is a list"),
        (write("[" * 200_000), "more than 64 levels"),
        (lambda path: (path.write_bytes(b"\xff\xfe"), None)[1], "is not UTF-8 text"),
        (replace('"train_seconds": 60.0', '"train_seconds": -60.0'), "cost.train_seconds"),
        (replace('"weights_sha256": "', '"weights_sha256": "AB'), "provenance.weights_sha256"),
        (replace('"train_seconds": 60.0', '"train_seconds": 60'), "is not as bench writes it (order, spaces or"),
        (replace("\n", "\r\n"), "is not as bench writes it"),
        (replace('"eval_seconds": 20.0', '"eval_seconds":  20.0'), "is not as bench writes it"),
        (replace('"parameters_total": 27000', '"parameters_total": 24999'), "parameters_backbone is larger"),
        (replace('"seed": 0', '"seed": 3'), "identity.seed: 3, and 0 in provenance.config"),
        (replace('"backbone": "mlp"', '"backbone": "<script>alert(1)</script>"'), "is neither a registered name nor"),
        (aside, f"is misplaced, it belongs at d4rl/{FIRST}"),
        (other_suite, f"is misplaced, it belongs at d4rl/{FIRST}"),
        (linked, "does not belong here; remove it"),
        (lambda path: path.unlink(), "is listed in SHA256SUMS and not there; restore it: git checkout"),
    ],
)  # fmt: skip
def test_a_changed_record_is_named(
    board: Path, spoil: Callable[[Path], None], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = board / "records" / "d4rl" / FIRST
    before = path.read_bytes()
    spoil(path)
    assert not path.is_file() or path.read_bytes() != before or path.is_symlink()
    assert any(said in line for line in look(board, pages=False).problems)
    resum(board)
    unlisted = not path.exists() or "not there" in said
    assert unlisted or path.is_symlink() or any(said in line for line in look(board, pages=False).problems)
    assert main(["check", str(board)]) == 1
    assert all(line.startswith(("problem: ", "warning: ", "8 ", "7 ")) for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("records/notes.txt", "x", "notes.txt: does not belong here; remove it"),
        ("records/d4rl/.x.json.0.tmp", "x", ".x.json.0.tmp: does not belong here"),
        ("records/README.md", "x", ""),
        ("records/SHA256SUMS", "x  y\n", "SHA256SUMS: line 1 is no hash, two spaces and a path; restore it"),
        ("records/SHA256SUMS", f"{'0' * 64}  b\n{'0' * 64}  a\n", "SHA256SUMS: is not sorted by path; restore it"),
        ("records/SHA256SUMS", f"{'0' * 64}  b\n{'0' * 64}  b\n", "SHA256SUMS: line 2 names a file again; restore it"),
        ("records/SHA256SUMS", f"{'0' * 64}  d4rl/x.json\n", f"{FIRST}: is not listed in SHA256SUMS; bench submit"),
        ("pages/board.md", "hand-written", "board.md: is not what the records make; make leaderboard"),
        ("pages/rows/old.html", "x", "rows/old.html: no record makes it; make leaderboard"),
    ],
)  # fmt: skip
def test_foreign_files_and_broken_checksums_are_named(board: Path, name: str, text: str, said: str) -> None:
    (board / name).write_text(text)
    problems = look(board).problems
    assert any(said in line for line in problems) if said else problems == []


def test_missing_pages_are_named(board: Path) -> None:
    (board / "pages" / "index.html").unlink()
    assert look(board).problems == [f"{board / 'pages' / 'index.html'}: is missing; make leaderboard"]


def test_missing_cells_are_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = missing_cells(RECORDS[:5])
    assert lines == ["d4rl, embedded, quick: gloma lacks 3 of 4 cells: hopper-medium s1, walker2d-medium s0, "
                     "walker2d-medium s1"]  # fmt: skip
    assert missing_cells(RECORDS) == []
    many = [whole_record("mlp", "hopper-medium", seed) for seed in range(10)]
    assert missing_cells([*many, whole_record("gloma")]) == [
        "d4rl, embedded, quick: gloma lacks 9 of 10 cells: hopper-medium s1, hopper-medium s2, hopper-medium s3, "
        "hopper-medium s4, hopper-medium s5, hopper-medium s6 and 3 more"
    ]
    verified = [whole_record("gloma", seed=seed, provenance__hardware__cpu="another") for seed in (10,)]
    rows = [whole_record(name, seed=seed) for name in ("gloma", "mamba", "mlp") for seed in range(2)]
    assert missing_cells([*rows, *verified]) == []
    submit(results_of(tmp_path / "results", *RECORDS[:5]), tmp_path / "records")
    render(Published(tmp_path / "records"))
    assert main(["check", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"warning: {lines[0]}"
    assert main(["check", "--strict", str(tmp_path / "records")]) == 1


def together(board: Path, *records: Record) -> Report:
    """What is found where somebody put the records there, sums and all."""
    (board / "records" / "d4rl").mkdir(parents=True, exist_ok=True)
    for record in records:
        dump_record(record, board / "records" / "d4rl" / f"{record.key}.json")
    resum(board)
    return look(board, pages=False)


def test_two_records_of_one_cell_are_a_problem(tmp_path: Path) -> None:
    """The rate is another, and the row does not say so."""
    one = whole_record()
    two = whole_record(config=[("train__lr", 0.1)], provenance__started="2026-02-01T00:00:00Z",
                       provenance__weights_sha256="cd" * 32)  # fmt: skip
    assert one.key != two.key
    assert together(tmp_path, one, two).problems == [
        f"{tmp_path / 'records'}: {two.key} is the same cell of the board as {one.key}; remove one of the two"
    ]


def test_a_wall_time_below_its_parts_is_a_warning(tmp_path: Path) -> None:
    """It is so in a cell that was interrupted."""
    record = whole_record(cost__wall_seconds=30.0)
    report = together(tmp_path, record)
    assert report.problems == []
    assert report.warnings == [
        f"{tmp_path / 'records' / 'd4rl' / record.key}.json: cost.wall_seconds: 30, and training and evaluation took "
        "80: right only for a cell that was interrupted"
    ]
    assert together(tmp_path / "b", whole_record(cost__wall_seconds=79.5)).warnings == []


def test_a_task_of_another_suite_is_one_line(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = board / "records" / "d4rl" / FIRST
    replace('"suite": "d4rl"', '"suite": "atari"')(path)
    assert main(["check", str(board)]) == 1
    assert "identity.task 'hopper-medium' is none of suite 'atari'" in capsys.readouterr().out
    assert main(["render", str(board)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"leaderboard: {path}: record: identity.task 'hopper-medium' is none of suite 'atari'")
    assert said.count("\n") == 1


def test_an_error_while_rendering_is_one_line(
    board: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> dict[str, str]:
        raise KeyError("no figures")

    monkeypatch.setattr("backbench.leaderboard.views.export.pages_of", broken)
    monkeypatch.setattr("backbench.leaderboard.check.pages_of", broken)
    assert look(board).problems == [
        f"{board / 'records'}: no pages can be made of the records: 'no figures'; see the other problems"
    ]
    assert main(["render", str(board)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"leaderboard: {board / 'records'}: no pages can be made of them: KeyError: 'no figures'; ")
    assert said.count("\n") == 1


def test_control_characters_are_escaped_in_the_output(board: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (board / "records" / "d4rl" / "\x1b[2J\u202e.json").write_text("{")
    (board / "records" / "\x07").write_text("")
    named = whole_record("mlp", variant="\x1b[31mred")
    dump_record(named, board / "records" / "d4rl" / f"{named.key}.json")
    assert main(["check", str(board)]) == 1
    out = capsys.readouterr().out
    assert "\\x1b[2J\\u202e.json: is not listed" in out
    assert "identity.variant: '\\x1b[31mred' holds the character U+001B" in out
    assert all(char.isprintable() for char in out.replace("\n", ""))


def test_verifications_that_verify_nothing_are_warned_about(board: Path) -> None:
    folder = board / "verifications"
    submit_verification(whole_record("mlp", provenance__hardware__cpu="Another CPU"), folder)
    render(Published(board / "records"))
    assert look(board) == Report([], [], 8)
    submit_verification(whole_record("mlp", provenance__platform="x", scores=(1.0, 2.0, 3.0)), folder)
    submit_verification(whole_record("mlp", seed=77), folder)
    report = look(board)
    assert report.problems == []
    assert sorted(line.partition("reproduces nothing: ")[2] for line in report.warnings) == [
        "its score differs by -48.00 points", "there is no such record"
    ]  # fmt: skip
    path = sorted((folder / "d4rl").iterdir())[0]
    path.rename(path.with_name(path.name.replace(path.name.split(".")[-2], "00000000")))
    assert any("is misplaced" in line for line in look(board).problems)


def test_unknown_code_is_a_warning(tmp_path: Path) -> None:
    record = whole_record(provenance__git_dirty=True)
    submit(results_of(tmp_path / "results", record), tmp_path / "records", allow_dirty=True)
    assert look(tmp_path, pages=False).warnings == [
        f"{tmp_path / 'records' / 'd4rl' / record.key}.json: its code is not known: no commit, or a changed tree"
    ]


def test_an_empty_leaderboard_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "records").mkdir()
    assert main(["render", str(tmp_path)]) == 0
    assert main(["check", "--strict", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith(f"0 records in {tmp_path / 'records'}: 0 problems, 0 warnings\n")
    assert main(["check", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit) as caught:
        main(["chekc"])
    assert caught.value.code == 2


def bench(monkeypatch: pytest.MonkeyPatch, *words: object) -> object:
    """The exit status of the command, run in this process."""
    monkeypatch.setattr(sys, "argv", ["bench", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        app.main()
    return left.value.code


def test_bench_leaderboard_check_exits_with_the_result(
    board: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(board)
    assert bench(monkeypatch, "leaderboard", "--check", board) == 0
    assert capsys.readouterr().err == ""
    (board / "pages" / "board.csv").write_text("")
    assert bench(monkeypatch, "leaderboard", "--check", board) == 1
    first = f"problem: {board / 'pages' / 'board.csv'}: is not what the records make; make leaderboard"
    assert capsys.readouterr().out.splitlines()[0] == first
    mistakes = (["--check", board, board], ["--check", "nowhere"], ["--format", "cvs"], [board, "--format", "html"])
    for words in (*mistakes, [board, "--strict"], [board, "--since", "HEAD"]):
        assert bench(monkeypatch, "leaderboard", *words) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_thousand_records_are_checked_within_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [
        f"{e}-{k}" for e in ("hopper", "walker2d", "halfcheetah") for k in ("medium", "medium-replay", "medium-expert")
    ]
    records = [whole_record(f"b{n}.x:Y", task, seed) for n in range(38) for task in tasks for seed in range(3)]
    assert len(records) > 1000
    results_of(tmp_path / "results", *records[:1])
    submit(tmp_path / "results", tmp_path / "records")
    for record in records:
        (tmp_path / "records" / "d4rl" / f"{record.key}.json").write_text(canonical(record))
    resum(tmp_path)
    began = time.process_time()
    render(Published(tmp_path / "records"))
    report = look(tmp_path, pages=False)
    assert report == Report([], [], len(records))
    assert time.process_time() - began < 20  # about a third of it, where nothing else runs


def test_a_broken_record_stops_rendering(board: Path) -> None:
    (board / "records" / "d4rl" / FIRST).write_text("{")
    before = {p: p.read_bytes() for p in (board / "pages").rglob("*.*")}
    with pytest.raises(RecordError, match="too early"):
        render(Published(board / "records"))
    assert {p: p.read_bytes() for p in (board / "pages").rglob("*.*")} == before
    assert main(["render", str(board)]) == 2


def test_a_submitted_record_reads_back_equal(made: Path) -> None:
    assert load_record(made / "records" / "d4rl" / FIRST) == RECORDS[0]


def test_an_edited_page_of_a_study_is_found(board: Path) -> None:
    report = board / "studies" / "reach" / "report.md"
    report.parent.mkdir(parents=True)
    report.write_text("# Study: reach\n")
    render(Published(board / "records"))
    assert look(board).problems == []
    page = board / "pages" / "studies" / "reach.html"
    page.write_text(page.read_text().replace("reach", "supported"))
    assert ["studies/reach.html: is not what the records make" in one for one in look(board).problems] == [True]
