"""Text made safe for where it is shown."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import unquote

import pytest

from backbench.text import SQLITE, count, markdown, path_url, url_path


def test_markdown_shows_any_text_as_it_is() -> None:
    assert markdown("a|b *c* <d> [e]_#`\\&") == r"a\|b \*c\* &lt;d&gt; \[e\]\_\#\`\\&amp;"


def test_one_thing_has_no_plural() -> None:
    assert [count(number, "layer") for number in (0, 1, 2)] == ["0 layers", "1 layer", "2 layers"]


@pytest.mark.parametrize("name", ["%20", "a b", "ü#?", "@x:y", "%", "a%2Fb", "\udcff"])
def test_a_path_survives_as_an_address(name: str, tmp_path: Path) -> None:
    path = tmp_path / name / "a.db"
    path.parent.mkdir()
    assert url_path(path_url(path)) == url_path(path_url(path, SQLITE)) == path
    assert path_url(path).isascii()
    assert unquote(path_url(path, SQLITE), errors="surrogateescape") == f"{SQLITE}:///{path}"
    sqlite3.connect(path_url(path), uri=True).execute("CREATE TABLE t (x)")
    assert os.path.getsize(path)


def test_a_relative_database_is_relative_to_the_working_folder() -> None:
    assert url_path("sqlite:///runs.db?timeout=5") == Path("runs.db")
