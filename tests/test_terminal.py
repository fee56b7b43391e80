"""What is shown is shown as it is: no markup, no control codes, on any terminal, for any reader."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from rich.live import Live
from rich.table import Table

from backbench import terminal
from backbench.text import plain, visible

HOSTILE = {
    "[/red]": "[/red]", "[bold]x": "[bold]x", ":Dragon:": ":Dragon:", "\x1b[2Jx": r"\x1b[2Jx", "\x9b2J": r"\x9b2J",
    "a\u202eb": r"a\u202eb", "zero\u200bwidth": r"zero\u200bwidth", "two\nlines": r"two\nlines",
    "\x07bell": r"\x07bell",
    "\udcfc": r"\udcfc",
}  # fmt: skip


@pytest.mark.parametrize(("text", "shown"), HOSTILE.items(), ids=HOSTILE.values())
def test_a_console_shows_any_text_as_it_is(text: str, shown: str) -> None:
    file = io.StringIO()
    console = terminal.console(file=file, width=200)
    terminal.say(console, text)
    assert file.getvalue() == f"{shown}\n"
    table = Table(title=text)
    table.add_column(text)
    table.add_row(text)
    table.add_row(terminal.styled(text, "red"))
    console.print(table, text)
    with Live(text, console=console):
        pass
    if "\n" not in text:
        assert file.getvalue().count(shown) == 7
    assert all(char.isprintable() or char == "\n" for char in file.getvalue())


@pytest.mark.parametrize(("text", "shown"), HOSTILE.items(), ids=HOSTILE.values())
def test_a_line_is_one_line(text: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.line(text)
    terminal.line(text, error=True)
    assert capsys.readouterr() == (f"{shown}\n", f"{shown}\n")
    assert visible(text) == shown
    assert plain(f" {text}\n") == shown.replace(r"\n", " ")


def python(code: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    code = f"from backbench import terminal\nterminal.ready()\n{code}\nterminal.finish()"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, env=os.environ | environment, check=False)


def test_a_terminal_that_lacks_a_character_shows_a_similar_one() -> None:
    code = "terminal.line('3 × 2 ± 1 — ü…\\u4e2d'); terminal.console().print('─ ×1.06 —')"
    for encoding, lines in {
        "latin-1": ["3 × 2 ± 1 - ü~?", "- ×1.06 -"], "ascii": ["3 x 2 +- 1 - ?~?", "- x1.06 -"],
        "utf-8": ["3 × 2 ± 1 — ü…中", "─ ×1.06 —"],
    }.items():  # fmt: skip
        done = python(code, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
        assert (done.stdout.decode(encoding).splitlines(), done.stderr) == (lines, b"")


def test_a_reader_that_leaves_does_not_end_the_work(tmp_path: Path) -> None:
    work = f"""
import os, sys
from backbench import terminal
terminal.ready()
for number in range(3000):
    terminal.line(f"line {{number}} " + "x" * 100)
    terminal.console().print("y" * 100)
open({str(tmp_path / "done")!r}, "w", encoding="utf-8").close()
terminal.finish()
"""
    done = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$0" -c "$1" | head -1', sys.executable, work],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("line 0 ")
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams_stay_closed_to_later_files(closed: str, tmp_path: Path) -> None:
    work = f"""
from backbench import terminal
terminal.ready()
file = open({str(tmp_path / "later")!r}, "w", encoding="utf-8")
assert file.fileno() > 2
terminal.line("to nobody")
terminal.line("to nobody", error=True)
terminal.console().print("to nobody")
terminal.finish()
"""
    assert subprocess.run(["bash", "-c", f'"$0" -c "$1" {closed}', sys.executable, work], check=False).returncode == 0
    assert (tmp_path / "later").read_text(encoding="utf-8") == ""


def test_a_dumb_terminal_gets_no_codes() -> None:
    main, side = pty.openpty()
    code = (
        "from backbench import terminal; terminal.ready(); c = terminal.console(); c.print('red', style='red')\n"
        "from rich.live import Live\nwith Live('live', console=c, transient=True): pass"
    )
    for environment in ({"TERM": "dumb"}, {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "20"}):
        subprocess.run([sys.executable, "-c", code], stdout=side, env=os.environ | environment, check=True)
        assert b"\x1b" not in os.read(main, 10_000)


def test_a_console_writes_to_its_file_in_a_notebook_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    to = io.StringIO()
    terminal.console(file=to).print("text")
    assert to.getvalue() == "text\n"
