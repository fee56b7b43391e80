"""Tables fit a terminal of 100 columns."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from backbench.benchmarks.speed import tables
from backbench.benchmarks.speed.report import FILE, KernelEntry, Report, read, write


def test_tables_print_in_100_columns_without_cut_cells(report: Report, tmp_path: Path) -> None:
    """With the longest of names, and with numbers as they are at full size."""
    text = report.model_dump_json()
    for name, other in (("transformer", "DecisionTransformerModel"), ("mamba", "transformer")):
        text = text.replace(f'"{name}"', f'"{other}"')
    slow = (0.532e1, 5.49, 5.76)
    wide = Report.model_validate_json(text).model_copy(update={
        "training": tuple(one.model_copy(update={"length": 60, "batch": 64}) for one in report.training),
        "kernels": (*(one.model_copy(update={"seconds": slow}) for one in report.kernels), KernelEntry(
            operation="selective_scan", implementation="x", ours=True, shape=(64, 60, 256, 16), window=None,
            seconds=(), refused="values off by 1",
        )),
        "models": tuple(one.model_copy(update={"parameters": 12_345_678}) for one in report.models),
    })  # fmt: skip
    wide = Report.model_validate(wide.model_dump())
    write(wide, tmp_path)
    assert read(tmp_path / FILE) == wide
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(tables.to_rich(wide))
    printed = console.export_text()
    assert max(map(len, printed.splitlines())) <= 100
    for table in tables.tables(wide):
        for line in table.lines:
            assert len(line) == len(table.columns)
            assert [cell for cell in line if cell not in printed] == []  # nothing is cut off or folded
    markdown = tables.to_markdown(wide)
    assert markdown.count("### ") == len(tables.tables(wide))
    assert "| DecisionTransformerModel |" in markdown


def test_training_speeds_stand_beside_mambas(report: Report) -> None:
    """At every length, with decisions and the state."""
    (side,) = (table for table in tables.tables(report) if table.title == "Side by side")
    assert side.columns == ("", "6 tokens", "12 tokens", "window, ms", "recurrent, ms", "state bytes")
    cells = {line[0]: line[1:] for line in side.lines}
    assert cells["mamba"][:2] == ("×1.00", "×1.00")
    assert set(cells) == {"transformer", "mamba", "gloma"}
    assert [one.state_bytes for one in report.models] == [int(row[-1].replace(",", "")) for row in cells.values()]
    one = {entry.model: entry.seconds for entry in report.lengths if entry.length == 6}
    ratio = sorted(a / b for a, b in zip(one["mamba"], one["gloma"], strict=True))[len(one["gloma"]) // 2]
    assert cells["gloma"][0] == f"×{ratio:#.3g}"
