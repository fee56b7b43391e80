"""The pages: equal bytes for equal records, whole or not at all, without torch."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from results_folders import results_of, snapshot
from whole_record import whole_record

from backbench.benchmarks.cli import app
from backbench.leaderboard.record.files import Published, RecordError, load_records
from backbench.leaderboard.trust.submit import submit, submit_verification
from backbench.leaderboard.views.export import pages_of, render, stale, write_pages

RECORDS = [whole_record(name, seed=seed) for name in ("mlp", "gloma") for seed in (0, 1)]


@pytest.fixture
def records(tmp_path: Path) -> Path:
    submit(results_of(tmp_path / "results", *RECORDS), tmp_path / "records")
    return tmp_path / "records"


ALONE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "gymnasium", "minari", "h5py", "hydra", "yaml") or name.startswith(
            ("backbench.benchmarks", "backbench.agents", "backbench.backbones")
        ):
            raise ImportError(f"{name} is not to be had")
sys.meta_path.insert(0, Refuse())
try:
    import torch
except ImportError:
    from backbench.leaderboard.__main__ import main
    sys.exit(main(sys.argv[1:]))
"""


def test_pages_are_rendered_and_checked_without_torch(records: Path) -> None:
    for command, said in (("render", "6 pages in "), ("check", "4 records in ")):
        done = subprocess.run(
            [sys.executable, "-c", ALONE, command, str(records)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert said in done.stdout
    pages = records.parent / "pages"
    read, _ = load_records(records)
    assert snapshot(pages) == {name: text.encode() for name, text in pages_of(read).items()}


def test_pages_are_markdown_csv_json_and_html(records: Path) -> None:
    names = render(Published(records))
    assert names[:4] == ["board.csv", "board.json", "board.md", "index.html"]
    assert [name.startswith("rows/") for name in names[4:]] == [True, True]
    pages = records.parent / "pages"
    assert json.loads((pages / "board.json").read_text())["records"] == 4
    rows = list(csv.DictReader(io.StringIO((pages / "board.csv").read_text())))
    assert {row["backbone"] for row in rows} == {"mlp", "gloma"}
    assert "gloma" in (pages / "board.md").read_text()


def test_equal_records_render_to_equal_bytes(records: Path) -> None:
    assert pages_of(RECORDS) == pages_of(RECORDS[::-1])
    render(Published(records))
    before = snapshot(records.parent / "pages")
    render(Published(records))
    assert snapshot(records.parent / "pages") == before


def test_a_verified_cell_is_counted(records: Path) -> None:
    other = whole_record("mlp", provenance__hardware__cpu="Another CPU")
    submit_verification(other, records.parent / "verifications")
    render(Published(records))
    (section,) = json.loads((records.parent / "pages" / "board.json").read_text())["sections"]
    assert {row["backbone"]: row["reproduced_cells"] for row in section["rows"]} == {"mlp": 1, "gloma": 0}


def test_stale_pages_are_named_and_removed(tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    write_pages({"index.html": "a", "rows/one.html": "b", "rows/two.html": "ü"}, pages)
    assert stale({"index.html": "a", "rows/two.html": "u", "board.md": ""}, pages) == [
        f"{pages / 'board.md'}: is missing; make leaderboard",
        f"{pages / 'rows/one.html'}: no record makes it; make leaderboard",
        f"{pages / 'rows/two.html'}: is not what the records make; make leaderboard",
    ]
    write_pages({"index.html": "c"}, pages)
    assert snapshot(tmp_path) == {"pages/index.html": b"c"}
    assert stale({"index.html": "c"}, pages) == []


@pytest.mark.parametrize("failing", ["write", "first", "second"])
def test_pages_are_replaced_completely_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    pages = tmp_path / "pages"
    write_pages({"index.html": "old"}, pages)
    real, calls = os.rename, list[Any]()

    def rename(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) == {"write": 0, "first": 1, "second": 2}[failing]:
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    if failing == "write":
        monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space"):
        write_pages({"index.html": "new", "board.md": "new"}, pages)
    monkeypatch.undo()
    assert snapshot(tmp_path) == {"pages/index.html": b"old"}


def test_leftovers_of_a_killed_render_are_removed(tmp_path: Path) -> None:
    left = tmp_path / ".pages.0123.tmp" / "rows"
    left.mkdir(parents=True)
    (left / "x.html").write_text("half")
    write_pages({"index.html": "new"}, tmp_path / "pages")
    assert snapshot(tmp_path) == {"pages/index.html": b"new"}


def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    (tmp_path / "file").write_text("x")
    before = snapshot(tmp_path)
    for folder, what in (("thesis", "chapter.tex"), ("file", "it is no folder")):
        with pytest.raises(RecordError, match=f"{folder}: holds no pages only: {what}; name an empty folder"):
            write_pages({"index.html": ""}, tmp_path / folder)
    monkeypatch.chdir(tmp_path / "thesis")
    with pytest.raises(RecordError, match="thesis: holds"):
        write_pages({"index.html": ""}, Path())
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", ["../x.html", "/x.html", "rows/../../x", ".hidden", "a/b/c", "", "x y"])
def test_page_names_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is no name of a page"):
        write_pages({name: "x"}, tmp_path / "pages")
    assert snapshot(tmp_path) == {}


def test_no_records_render_an_empty_board(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    assert "index.html" in render(Published(tmp_path / "records"))
    assert "No records yet" in (tmp_path / "pages" / "index.html").read_text()
    assert not (tmp_path / "pages" / "rows").exists()


def test_markup_in_names_is_escaped(tmp_path: Path) -> None:
    """It is refused by ``check``; who renders it all the same gets text."""
    evil = "<script>alert(1)</script>"
    pages = pages_of([whole_record(evil, variant="<img src=x onerror=alert(2)>")])
    assert all(evil not in text and "<img src=x" not in text for name, text in pages.items() if name.endswith(".html"))
    assert any("&lt;script&gt;alert(1)" in text for name, text in pages.items() if name.endswith(".html"))
    assert evil not in pages["board.md"]
    write_pages(pages, tmp_path / "pages")


def test_the_command_writes_every_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def bench(*words: str) -> object:
        monkeypatch.setattr(sys, "argv", ["bench", "leaderboard", *words])
        with pytest.raises(SystemExit) as left:
            app.main()
        return left.value.code

    results_of(tmp_path / "results", *RECORDS)
    monkeypatch.chdir(tmp_path)
    assert bench("--format", "json") == 0
    printed = capsys.readouterr().out
    assert json.loads(printed)["records"] == 4
    assert bench("results", "--format", "json", "--out", "there/board.json") == 0
    assert capsys.readouterr().out == "written: there/board.json\n"
    assert (tmp_path / "there" / "board.json").read_text() == printed == pages_of(RECORDS)["board.json"]
    for format_, said in (("csv", "section,"), ("markdown", "gloma"), ("terminal", "gloma")):
        assert bench("--format", format_, "--out", format_) == 0
        assert said in (tmp_path / format_).read_text()
        assert bench("--format", format_) == 0
        assert said in capsys.readouterr().out
    assert bench("--format", "html", "--out", "site") == 0
    assert sorted(path.name for path in (tmp_path / "site").iterdir()) == [
        "board.csv", "board.json", "board.md", "index.html", "rows",
    ]  # fmt: skip
    row = next((tmp_path / "site" / "rows").iterdir()).read_text()
    assert "bench reproduce leaderboard/" not in row  # these are committed nowhere
    assert bench("--format", "html", "--out", ".") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "csv", "markdown", "results", "site", "terminal", "there"
    ]  # fmt: skip
