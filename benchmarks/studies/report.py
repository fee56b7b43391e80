"""The report of a study: ``report.md``, a CSV file for each table, SVG and PNG for each picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backbench.benchmarks.studies.study import Cells, Picture, Reading, Records, Study, Table
from backbench.files import write_whole
from backbench.leaderboard.record.schema import Record
from backbench.text import count

STYLE: dict[Any, Any] = {
    "font.size": 11, "svg.hashsalt": "backbench", "svg.fonttype": "none", "axes.grid": True, "grid.color": "#dddddd",
    "figure.constrained_layout.use": True,
}  # fmt: skip
# Told apart without colour too: marker and line differ.
MARKERS, LINES = "osD^vPX*", ("-", "--", "-.", ":")
COLOURS = ("#0072b2", "#d55e00", "#00855f", "#a8478a", "#3a3f45", "#9500ff", "#770800", "#4e035d")


def write(
    study: Study, reading: Reading, planned: Cells, found: Records, folder: Path, about: Sequence[str]
) -> list[str]:
    """Write the report of ``study`` to ``folder`` and return the names of its files.

    ``about``: lines on the command, the preset and the smallest effect. Without matplotlib there are no pictures, and
    the report says so.
    """
    files: list[str] = []
    pictures = []
    for picture in reading.pictures:
        try:
            files += _draw(picture, folder)
            pictures.append(f"![{picture.about}]({picture.name}.svg)")
        except ImportError as error:
            pictures.append(f"*No picture here: {error}. Install matplotlib and run the command again.*")
    for table in reading.tables:
        write_whole(folder / f"{table.name}.csv", _csv(table))
        files.append(f"{table.name}.csv")
    write_whole(
        folder / "report.md", "\n".join([*_head(study, about), *_body(reading, pictures), *_foot(planned, found)])
    )
    return ["report.md", *files]


def _head(study: Study, about: Sequence[str]) -> list[str]:
    return [f"# Study: {study.name}", "", study.question, "", *(f"* {line}" for line in about), ""]


def _body(reading: Reading, pictures: Sequence[str]) -> list[str]:
    lines: list[str] = []
    for claim in reading.claims:
        lines += [f"**{claim.says}** *{claim.verdict.capitalize()}*: {claim.result} {claim.change}", ""]
    for picture in pictures:
        lines += [picture, ""]
    for table in reading.tables:
        lines += [f"## {table.title}", "", *markdown(table), ""]
    return [*lines, "## What can be concluded, and what cannot", "", *(f"* {note}" for note in reading.notes), ""]


def _foot(planned: Cells, found: Records) -> list[str]:
    records = [record for records in found.by_arm.values() for record in records]
    missing = len(planned.every) - len(records)
    lines = ["## How it was run", ""]
    lines += [f"* {arm.name} was skipped: {reason}" for arm, reason in planned.skipped.items()]
    if missing > 0:  # nothing was planned where records of any folder are read
        lines.append(
            f"* {count(missing, 'cell')} of {len(planned.every)} have no finished record, and are in no number."
        )
    for arm in planned.cells:
        lines.append(f"* {arm.name}: `{' '.join((arm.backbone, *arm.overrides))}`")
    return [*lines, *_provenance(records), ""]


def _provenance(records: Sequence[Record]) -> list[str]:
    """Commits, data and processor time of the records."""
    commits = sorted({one.provenance.git_commit for one in records if one.provenance.git_commit})
    data = {one.identity.data.id: one.identity.data.sha256 for one in records if one.identity.data is not None}
    hours = sum(one.cost.cpu_seconds for one in records if one.cost is not None) / 3600
    machines = sorted({one.provenance.hardware.gpu or one.provenance.hardware.cpu for one in records})
    lines = [f"* {count(len(records), 'record')}, {hours:.1f} CPU hours on {', '.join(machines) or 'no machine'}."]
    if commits:
        lines.append(f"* Made at commit {', '.join(commits)}.")
    return lines + [f"* Data {name}: `{digest}`" for name, digest in sorted(data.items())]


def markdown(table: Table) -> list[str]:
    """The table in GitHub's Markdown."""
    lines = ["| " + " | ".join(table.heads) + " |", "|---" + "|---:" * (len(table.heads) - 1) + "|"]
    return lines + ["| " + " | ".join(_shown(value, table.digits) for value in row) + " |" for row in table.rows]


def _shown(value: object, digits: int) -> str:
    if isinstance(value, float):
        return f"{value:.{digits}f}"
    return "" if value is None else str(value).replace("|", "\\|")


def _csv(table: Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.heads)
    writer.writerows([f"{value:.6g}" if isinstance(value, float) else value for value in row] for row in table.rows)
    return text.getvalue()


def _draw(picture: Picture, folder: Path) -> list[str]:
    import matplotlib
    from matplotlib.figure import Figure

    names = []
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=picture.size)
        picture.draw(figure)
        for kind, metadata in (("svg", {"Date": None}), ("png", {})):
            content = io.BytesIO()
            figure.savefig(content, format=kind, dpi=150, metadata=metadata)
            write_whole(folder / f"{picture.name}.{kind}", content.getvalue())
            names.append(f"{picture.name}.{kind}")
    return names
