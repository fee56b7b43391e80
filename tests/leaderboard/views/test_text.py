"""The terminal and Markdown say the same; names stay names."""

from __future__ import annotations

import re

import pytest
from record_factory import full_suite, make_record
from rich.console import Console

from backbench.leaderboard.board.board import Board, build_board
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.views.text import tabulate, to_markdown, to_rich


def printed(records: list[Record], width: int = 100) -> str:
    console = Console(width=width, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(to_rich(build_board(records), width))
    return capture.get()


@pytest.mark.parametrize("count", [1, 3, 5, 12])
def test_terminal_and_markdown_hold_the_same_cells(count: int) -> None:
    records = [one for index in range(count) for one in full_suite(f"backbone{index}", 80.0 + 5 * index)]
    shown, markdown = printed(records), to_markdown(build_board(records))
    assert max(map(len, shown.splitlines())) <= 100
    (table,) = tabulate(build_board(records))
    assert table.reported is not None
    for block in (*table.blocks, *table.reported.blocks):
        for line in block:
            for cell in line:
                for text in (cell.main, cell.sub):
                    assert text in shown
                    assert text in markdown


def test_markdown_has_scores_aggregates_and_costs() -> None:
    text = to_markdown(build_board([*full_suite("gloma", 40.0), make_record("mamba", scores=[44.0] * 3)]))
    lines = text.splitlines()
    assert lines[:4] == [
        "### 1. d4rl, data embedded, preset quick, acting window",
        "",
        "| task | data | gloma | mamba |",
        "|:---|---:|---:|---:|",
    ]
    assert "| hopper-medium | 44.0 | 45.0 ×1.02 (43.0, 47.0) | 44.0 ×1.00 (44.0, 44.0)e |" in lines
    assert "| mean | 44.0 | 46.0 (45.4, 46.6) | — |" in lines
    assert "| median |  | 46.0 (44.7, 47.3) | — |" in lines
    assert "| optimality gap |  | 0.54 (0.53, 0.55) | — |" in lines
    assert "| FLOPs per token |  | 50,000 | 50,000 |" in lines
    assert "| decision p95, ms |  | 2.5 | 2.5 |" in lines
    assert "| peak memory, MB |  | 400 | 400 |" in lines
    assert "P(better" not in text
    assert "Beaten by no other" not in text
    assert "| parameters |  | 27,000 | 27,000 |" in lines
    for words in (
        "85% with 3, 91% with 5, 92% with 10",
        "75% with 3",
        "arXiv:2004.07219",
        "one seed only",
        "lacks 8 of 9 tasks",
    ):
        assert words in text


def test_pairs_are_compared_where_two_rows_have_two_seeds() -> None:
    records = [*full_suite("gloma", 40.0), *full_suite("mamba", 41.0), *full_suite("mlp", 90.0, seeds=(0,))]
    text = to_markdown(build_board(records))
    assert re.search(r"\| P\(better than gloma\) \|  \| — \| 0\.67 \(0\.\d\d, 0\.\d\d\) \| — \|", text)
    assert re.search(r"\| P\(better than mamba\) \|  \| 0\.33 \(0\.\d\d, 0\.\d\d\) \| — \| — \|", text)
    assert "P(better than mlp)" not in text
    assert "Intervals that exclude it: mamba better than gloma. Undecided: 0 of 1 pairs." in text
    clear = [one for index in range(3) for one in full_suite(f"b{index}", 40.0 + 9 * index)]
    said = "Intervals that exclude it: b1 better than b0; b2 better than b0, b1. Undecided: 0 of 3 pairs."
    assert said in to_markdown(build_board(clear))
    alike = [*full_suite("gloma", 40.0), *full_suite("mamba", 40.0)]
    assert "Intervals that exclude it: none. Undecided: 1 of 1 pairs." in to_markdown(build_board(alike))
    costs = "parameters, FLOPs per token, train tokens/s, decision p50, decision p95, peak memory, wall time"
    assert f"Beaten by no other row in both IQM and a cost, by point estimates: {costs}: mlp." in text
    many = [one for index in range(13) for one in full_suite(f"b{index}", 40.0 + index)]
    assert "P(better" not in to_markdown(build_board(many))


def test_reported_scores_have_a_table_of_their_own() -> None:
    records = [*full_suite("gloma", 40.0), *full_suite("mamba", 41.0)]
    text, shown = to_markdown(build_board(records)), printed(records)
    ours, reported = text.split("#### 1. Reported scores on the same tasks")
    assert "DMamba" not in ours
    assert "67.6" in reported
    assert "not measured here" in reported
    assert "these data were made here" in reported
    assert "Reported scores on the same tasks" in shown
    assert max(map(len, shown.splitlines())) <= 100
    # Numbers of a column stay whole: nothing is folded.
    assert "107.6" in shown.split("Reported")[1]


def test_names_cannot_break_markdown_or_terminal() -> None:
    name = "a|b <script>x</script> [red]c[/red] [l](javascript:x) `d` \x1b[2J"
    records = [make_record(variant=name), make_record(seed=1, variant=name, failed=f"{name}\n| new | row |")]
    markdown, shown = to_markdown(build_board(records)), printed(records, width=200)
    assert "<script>" not in markdown
    assert "\x1b" not in markdown + shown
    assert "[red]" in shown
    ours = markdown.partition("####")[0]
    rows = [line for line in ours.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {4}  # task, data, one row
    assert not re.search(r"(?<!\\)\[l", markdown)


def test_sections_say_why_they_are_apart() -> None:
    text = to_markdown(build_board([*full_suite("gloma", 40.0), make_record(protocol__acting="recurrent")]))
    assert "Not compared with table 1: acting 'recurrent' instead of 'window'." in text


def test_no_records_say_so() -> None:
    assert to_markdown(build_board([])) == "No records.\n"
    assert printed([]).strip() == "No records."


def test_a_single_seed_stands_beside_the_spread_of_seeds() -> None:
    many = [make_record("mamba", seed=seed, scores=(value,) * 3) for seed, value in enumerate((40.0, 50.0, 60.0))]
    many += [make_record("mlp", seed=seed, scores=(value,) * 3) for seed, value in enumerate((40.0, 40.0))]
    published, one = build_board(many), [make_record("gloma")]

    def shown(records: list[Record], beside: Board | None) -> str:
        console = Console(width=120, force_terminal=False, color_system=None)
        with console.capture() as text:
            console.print(to_rich(build_board(records), 120, beside=beside))
        return text.get()

    text = shown(one, published)
    assert re.search(r"hopper-medium +44\.0 +±7\.1 +50\.0", text), text  # the root of (100 + 0) / 2
    assert "standard deviation of one seed's score within a row of the committed board" in text
    for records, beside in (
        (many[:3], published), (one, None), (one, build_board(many[:1])),
        ([make_record("gloma", preset="smoke")], published),
        ([make_record("gloma", identity__data__sha256="1" * 64)], published),
    ):  # fmt: skip
        assert "±7.1" not in shown(records, beside)
        assert "standard deviation of one seed" not in shown(records, beside)
