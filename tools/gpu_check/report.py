"""The report: ``report.json`` with everything that was found, and ``report.md`` to read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from backbench.files import write_whole
from backbench.text import markdown
from gpu_check.hours import TASKS, Table
from gpu_check.settings import GOAL, SEEDS, Settings
from gpu_check.stages import DONE, Result

REHEARSAL = (
    "This is a rehearsal on a CPU, with small cells. It shows that the check works. No figure here is one of a GPU."
)
Cells = Sequence[object]


def content(
    machine: Mapping[str, Any], settings: Settings, results: Sequence[Result], table: Table, seconds: float
) -> dict[str, Any]:
    """The report as JSON values."""
    return {
        "kind": "gpu check",
        "schema_version": 1,
        "rehearsal": not settings.cuda,
        "machine": dict(machine),
        "seconds": seconds,
        "settings": {**dataclasses.asdict(settings), "out": ""},
        "stages": [dataclasses.asdict(result) for result in results],
        "table": {
            **dataclasses.asdict(table), "hours": table.hours, "goal": GOAL,
            "met": table.met if settings.cuda else None,
            "cells": TASKS * SEEDS * len(settings.backbones),
        },
    }  # fmt: skip


def write(report: Mapping[str, Any], table: Table, results: Sequence[Result], folder: Path) -> list[Path]:
    """Write both files. OSError if that fails."""
    paths = [folder / "report.json", folder / "report.md"]
    write_whole(paths[0], json.dumps(report, indent=1, allow_nan=False) + "\n")
    write_whole(paths[1], "\n".join(_page(report, table, results)).rstrip() + "\n")
    return paths


def _page(report: Mapping[str, Any], table: Table, results: Sequence[Result]) -> Iterator[str]:
    machine, found = report["machine"], _Findings(results)
    yield f"# GPU check: {markdown(machine['device'])}"
    yield ""
    if report["rehearsal"]:
        yield from (f"**{REHEARSAL}**", "")
    yield markdown(", ".join(f"{key} {value}" for key, value in machine.items() if key != "device"))
    yield ""
    if report["rehearsal"]:
        yield f"The extrapolation ran. Its {table.hours:.2f} hours, of small cells on this CPU, mean nothing."
    else:
        yield verdict(table)
    yield ""
    lines: list[Cells] = [(one.name, one.status, f"{one.seconds:.0f} s", one.error or "—") for one in results]
    yield from _grid(f"Stages, {report['seconds']:.0f} s in all", ("stage", "status", "time", "error"), lines)
    lines = [(one["passed"], one["skipped"], ", ".join(one["failed"]) or "none") for one in found.of("tests")]
    yield from _grid("Tests marked gpu", ("passed", "skipped", "failed"), lines)
    yield from _training(found)
    yield from _packing(found)
    yield from _hours(report, table, found)
    for one in found.of("speed"):
        yield from ("## bench speed", "", f"Timed runs of about {one['budget']:.0f} s.", "", one["markdown"])


def verdict(table: Table) -> str:
    """One line: the GPU-hours, and whether the goal is met."""
    said = {True: "met", False: "not met", None: "unknown, since a backbone is missing"}[table.met]
    without = f" without {', '.join(table.missing)}" if table.missing else ""
    return f"The paper's Gym table would take {table.hours:.2f} GPU-hours{without}. The goal is {GOAL:g}: {said}."


class _Findings:
    def __init__(self, results: Sequence[Result]) -> None:
        self.results = results

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [one for result in self.results for one in result.found(kind)]

    def by_backbone(self, kind: str) -> dict[str, dict[str, Any]]:
        return {one["backbone"]: one for one in self.of(kind)}


def _training(found: _Findings) -> Iterator[str]:
    busy, graphs = found.by_backbone("busy"), found.by_backbone("graphs")
    alone = {one["backbone"]: one for one in found.of("packed") if one["graphs"] and one["count"] == 1}
    lines = []
    for name, cell in found.by_backbone("cell").items():
        rate, of, same = cell["updates_per_s"], busy.get(name), graphs.get(name, {})
        graphed = alone.get(name, {}).get("updates_per_s")
        lines.append(
            (
                name, _number(rate), _number(cell["tokens_per_s"]), _number(cell["peak_mb"]),
                f"{100 * of['waits']:.0f} %" if of else "—", _number(of["kernels"]) if of else "—",
                _number(graphed), f"×{graphed / rate:.2f}" if graphed else "—", _equality(same),
            )
        )  # fmt: skip
    heads = (
        "", "updates/s", "tokens/s", "peak MB", "GPU waits", "kernels an update", "with CUDA graphs, updates/s",
        "gain", "losses with graphs",
    )  # fmt: skip
    yield from _grid("One cell of the preset paper", heads, lines)
    if busy:
        yield "GPU waits: one minus the time in which kernels or copies run (PyTorch's profiler, their union, for one"
        yield "update) times the updates per second without the profiler."
        yield ""


def _equality(one: Mapping[str, Any]) -> str:
    if "equal_bits" not in one:
        return "not compared"
    if one["equal_bits"]:
        return f"equal bits, {one['updates']} updates"
    worst = one["largest_difference"]
    by = "not finite" if worst is None else f"differ by up to {worst:.0e}"
    return f"{by}; plain ones repeat: {one['plain_repeats']}"


def _packing(found: _Findings) -> Iterator[str]:
    packed = found.of("packed")
    counts = sorted({one["count"] for one in packed})
    rows: dict[tuple[str, bool], dict[int, float]] = {}
    for one in packed:
        rows.setdefault((one["backbone"], one["graphs"]), {})[one["count"]] = one["updates_per_s"]
    for name, cell in found.by_backbone("cell").items():
        if (name, False) in rows:
            rows[name, False].setdefault(1, cell["updates_per_s"])
    lines = [
        (name, "yes" if graphs else "no", *(_number(rates.get(count)) for count in counts),
         f"×{max(rates.values()) / rates[1]:.2f}" if 1 in rates else "—")
        for (name, graphs), rates in sorted(rows.items())
    ]  # fmt: skip
    heads = ("", "CUDA graphs", *(f"{count} at once" for count in counts), "best against one")
    yield from _grid("Cells at once, a process each: updates/s of all together", heads, lines)


def _hours(report: Mapping[str, Any], table: Table, found: _Findings) -> Iterator[str]:
    busy = found.by_backbone("busy")
    lines: list[Cells] = [
        (way.backbone, way.count, "yes" if way.graphs else "no", _number(way.updates_per_s),
         f"{100 * busy[way.backbone]['busy_seconds'] * way.updates_per_s:.0f} %" if way.backbone in busy else "—",
         f"{way.train_hours:.3f}",
         f"{way.rest_hours:.3f}", f"{way.hours:.3f}")
        for way in table.best
    ]  # fmt: skip
    lines += [(name, *["not measured"] * 7) for name in table.missing]
    lines.append(("sum", *[""] * 6, f"{table.hours:.3f}"))
    heads = (
        "", "cells at once", "CUDA graphs", "updates/s", "GPU busy", "training, h", "checkpoints, evaluation, h",
        "GPU-hours",
    )  # fmt: skip
    yield from _grid(f"The paper's Gym table: {report['table']['cells']} cells", heads, lines)
    cell = next(iter(found.of("cell")), None)
    if cell:
        every = report["settings"]["checkpoint_every"]
        yield f"A backbone has {TASKS} tasks x {SEEDS} seeds = {TASKS * SEEDS} cells. Training: {TASKS * SEEDS} x"
        yield f"{cell['planned_updates']:,} updates / updates per second / 3,600. The rest is divided by the cells at"
        yield f"once, because the others train meanwhile: a checkpoint every {every:,} updates, and"
        yield f"{cell['planned_evaluations']} evaluations of {cell['episodes']} episodes (the last one for each of"
        yield f"{cell['targets']} targets) of {cell['max_steps']:,} steps. A step of one environment takes"
        yield f"{1e6 * table.step_seconds:.0f} µs, {table.step_source}. Shorter episodes take less."
        yield ""
    if table.waits_never is not None:
        yield "GPU busy: the time in which the kernels of an update run, alone, times updates per second. Over 100 %,"
        yield "kernels run side by side."
        yield ""
        yield f"Training alone would take {table.waits_never:.2f} GPU-hours if these kernels ran one after the other"
        yield "without a gap. Only kernels that run side by side, or fewer or faster ones, take less."
        yield ""


def _grid(title: str, heads: Cells, lines: Sequence[Cells]) -> Iterator[str]:
    if lines:
        yield from (f"## {title}", "", _row(heads), "|" + "|".join([":---", *["---:"] * (len(heads) - 1)]) + "|")
        yield from (*map(_row, lines), "")


def _row(cells: Cells) -> str:
    return "| " + " | ".join(markdown(str(cell)) for cell in cells) + " |"


def _number(value: float | None) -> str:
    if value is None:
        return "—"
    return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"


def failed(results: Sequence[Result]) -> list[str]:
    """A line for each stage that is not done."""
    return [f"{one.name}: {one.status}: {one.error}" for one in results if one.status != DONE]
