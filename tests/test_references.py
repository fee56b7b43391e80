"""BibTeX: every paper that a backbone or a suite names is there, and nothing else."""

import re
from pathlib import Path

import pytest

from backbench.backbones import BACKBONES
from backbench.benchmarks.plan import suites
from backbench.references import cited, entries

NAMES = [name for name in BACKBONES.names() if BACKBONES.origin(name) == "built-in"]
NAMED = " ".join([*(BACKBONES.get(name).paper for name in NAMES), *(table.papers for table in suites.tables())])


def test_every_paper_that_is_named_has_an_entry() -> None:
    assert [entry for entry in cited(NAMED) if "author" not in entry] == []


def test_no_entry_is_left_over() -> None:
    statistics = Path(suites.__file__).parents[2] / "leaderboard" / "scores" / "statistics.py"
    assert set(entries().values()) == {*cited(NAMED), *cited(statistics.read_text())}


@pytest.mark.parametrize("entry", entries().values())
def test_an_entry_is_complete(entry: str) -> None:
    fields = dict(re.findall(r"^  (\w+) = \{(.*)\},$", entry, re.MULTILINE))
    assert {"title", "author", "year"} <= set(fields)
    assert entry.count("{") == entry.count("}")
    key = re.match(r"@\w+\{(\w+),", entry)
    assert key is not None
    assert fields["year"] in key[1]
    if eprint := fields.get("eprint"):  # a number begins with the year and month of the first version
        assert eprint[:2] == fields["year"][2:]


def test_an_unknown_paper_has_its_number() -> None:
    assert cited("arXiv:9901.12345 and doi:10.1/x, twice") == [
        "@misc{9901-12345,\n  eprint = {9901.12345},\n  archivePrefix = {arXiv},\n}",
        "@misc{10-1-x,\n  doi = {10.1/x},\n}",
    ]
