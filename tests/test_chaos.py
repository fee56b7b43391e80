"""A few of the kills of ``make chaos``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import chaos
import pytest


@pytest.mark.parametrize(
    "works",
    [
        ("cells", "submission"),
        pytest.param(("data making", "record writing", "concurrent runs"), marks=pytest.mark.slow),
    ],
)
def test_kills_tear_nothing_change_no_bit_and_leave_nothing_over(hopper_store: Path, works: tuple[str, ...]) -> None:
    words = [sys.executable, chaos.__file__, str(2 * len(works)), *works]
    done = subprocess.run(words, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.rsplit(maxsplit=6) for line in done.stdout.splitlines()[1:]]
    assert [line[0].strip() for line in lines] == [*works]
    assert all(int(line[1]) >= 2 and line[3:] == ["0"] * 4 for line in lines), done.stdout


def test_the_table_counts_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A writer that is not atomic tears files."""

    class Careless(chaos.Records):
        def run(self, folder: Path) -> None:
            folder.mkdir(exist_ok=True)
            for number in range(200):
                with (folder / f"{number}.json").open("w", encoding="utf-8") as file:
                    file.write('{"a": [')
                    file.flush()
                    file.write("1]}")

        def bits(self, folder: Path) -> object:
            return None

    seen = chaos.torment(Careless(), 20, tmp_path, chaos.random.Random(0))
    assert seen["torn"] > 0
