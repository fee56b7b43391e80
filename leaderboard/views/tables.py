"""A board as plain data, the source of CSV, JSON and the page. Equal records give equal bytes."""

import csv
import hashlib
import io
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import count
from typing import Any

from backbench.leaderboard.board import columns
from backbench.leaderboard.board.analysis import (
    Profile,
    courses,
    decided_tasks,
    fronts,
    improvements,
    paired_differences,
    profiles,
    undecided_costs,
)
from backbench.leaderboard.board.board import Board, Longer, Row, Score, Section
from backbench.leaderboard.board.columns import CostColumn
from backbench.leaderboard.board.mechanisms import mechanism
from backbench.leaderboard.board.reproduction import reported, reproduction, why_none
from backbench.leaderboard.board.tuning import Tuning
from backbench.leaderboard.board.twins import Twin
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.scores.normalise import CITATIONS
from backbench.leaderboard.scores.statistics import Estimate

VERSION = 1
_FORMULA = {*"=+-@\t\r\n"}
_SETTING = ("suite", "source", "preset", "acting", "sampling", "episodes", "eval_seed", "normaliser", "tuning")
_TASK_SETTING = ("context", "targets", "max_steps", "environment", "returns_to_go", "data_sha256")
_ROW = ("label", "backbone", "mechanism", "variant", "matched", "trust", "machines", "cells", "reproduced_cells")
_SCORE = ("value", "low", "high", "over", "n", "method", "seeds", "raw", "ratio", "data")


def to_view(board: Board, records: Sequence[Record]) -> dict[str, Any]:
    """``board``, built from ``records``, as what JSON can hold: floats of six significant digits, complete records.
    ``failed`` lists the cells without a score over all sections. Raw returns have no optimality gaps."""
    bare = {record.key: record.model_dump(mode="json") for record in sorted(records, key=lambda one: one.key)}
    sections: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    cells: dict[str, dict[str, Any]] = {}
    for section in board.sections:
        name = _section_id(section, {one["id"] for one in sections})
        rows = [_row_id(row, name) for row in section.rows]
        sections.append(_section(section, name, rows))
        for row, row_id in zip(section.rows, rows, strict=True):
            for record in row.records:
                cell = {"section": name, "row": row_id, "task": record.identity.task, "seed": record.identity.seed}
                if record.failure is not None:
                    failed.append({**cell, "reason": record.failure.reason, "record": record.key})
                score = record.headline.normalised_mean if record.headline else None
                cells[record.key] = {**cell, "status": record.status, "score": score}
    view = {"version": VERSION, "records": len(records), "sections": sections, "failed": failed, "cells": cells}
    rounded: dict[str, Any] = _rounded(view)
    rounded["digest"] = _sha256(sorted([key, _sha256(content)] for key, content in bare.items()))
    rounded["cells"] = {key: {**cell, "record": bare[key]} for key, cell in sorted(rounded["cells"].items())}
    return rounded


def to_json(view: Mapping[str, Any]) -> str:
    """``view`` as canonical JSON, without the records, which ``cells`` names by their keys: they are files already."""
    cells = {key: {name: cell[name] for name in cell if name != "record"} for key, cell in view["cells"].items()}
    return json.dumps({**view, "cells": cells}, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(view: Mapping[str, Any]) -> str:
    """``view`` as CSV (RFC 4180): a line for each row and task (kind ``task``) and for each aggregate of a row.
    A row without any score has one line (kind ``failed``).
    Costs are the row's, repeated on each of its lines. Text cannot start a formula in a spreadsheet: an apostrophe
    precedes ``= + - @``."""
    costs = [column.key for column in columns.COSTS]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    tuned, twins = [one.key for one in columns.TUNING], [one.key for one in columns.TWIN]
    writer.writerow(["section", *_SETTING, "row", *_ROW, "failed", "kind", "name", *_SCORE, *costs, *tuned, *twins])
    for section in view["sections"]:
        for row in section["rows"]:
            for kind, name, score in _lines(section, row):
                cells = [
                    section["id"], *(section[key] for key in _SETTING),
                    row["id"], *(row[key] for key in _ROW), len(row["failed"]),
                    kind, name, *(score.get(key) for key in _SCORE), *(row["cost"][key] for key in costs),
                    *((row["tuning"] or {}).get(key) for key in tuned),
                    *(((row["twin"] or {}).get(key) or {}).get("value") for key in twins),
                ]  # fmt: skip
                writer.writerow(
                    [f"'{cell}" if isinstance(cell, str) and cell[:1] in _FORMULA else cell for cell in cells]
                )
    return text.getvalue()


def _lines(section: Mapping[str, Any], row: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    if not row["scores"]:
        yield "failed", "", {}
    for task in (task for task in section["tasks"] if task in row["scores"]):
        score = row["scores"][task]
        yield "task", task, {**score, "seeds": " ".join(map(str, score["seeds"])), "data": section["data"].get(task)}
    for name, one in (row["aggregates"] or {}).items():
        yield "aggregate", name, {**one, "seeds": " ".join(map(str, row["seeds"])), "data": section.get(f"data_{name}")}


def _section(section: Section, name: str, ids: list[str]) -> dict[str, Any]:
    setting, shapes, differences = section.setting, profiles(section), reproduction(section)
    none = why_none(section, differences)
    decided, compared = decided_tasks(section)
    return {
        "id": name,
        "title": setting.title,
        **_picked(setting, _SETTING),
        "citation": CITATIONS[setting.normaliser],
        "versions": dict(setting.versions),
        "tasks": list(section.tasks),
        "complete": section.complete,
        "apart": list(section.apart),
        "apart_from": section.apart_from if section.apart else None,
        "measured": section.measured,
        "undecided_costs": undecided_costs(section),
        "notes": [f"{note}." for note in section.notes] + ([] if none is None else [none]),
        "task_settings": {task: _picked(one, _TASK_SETTING) for task, one in section.task_settings.items()},
        "data": dict(section.data),
        **{f"data_{one.key}": section.data_aggregates.get(one.key) for one in columns.METRICS if one.of_data},
        "rows": [_row(row, ids[index], shapes.get(index)) for index, row in enumerate(section.rows)],
        "improvement": [
            {**asdict(one), "x": ids[one.x], "y": ids[one.y], "decided": one.decided} for one in improvements(section)
        ],
        "paired": [
            {**asdict(one), "x": ids[one.x], "y": ids[one.y], "decided": one.decided}
            for one in paired_differences(section)
        ],
        "decided": [{**asdict(one), "better": ids[one.better], "worse": ids[one.worse]} for one in decided],
        "decided_of": compared,
        "pareto": {cost: [ids[index] for index in front] for cost, front in fronts(section).items()},
        "reported": [asdict(one) for one in reported(section)],
        "reproduction": [
            {
                "row": ids[one.row],
                **_picked(one.reported, ("task", "method", "citation")),
                **_picked(one, ("ours", "low", "high", "difference")),
                "reported": one.reported.score,
            }
            for one in differences
        ],
    }


def _picked(of: object, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(of, name) for name in names}


def _row(row: Row, row_id: str, profile: Profile | None) -> dict[str, Any]:
    cell = row.records[0].identity
    used = [record for record in row.records if record.key in row.used]
    return {
        "id": row_id,
        "label": row.label,
        **_picked(row.row, ("backbone", "variant", "matched", "control")),
        "mechanism": mechanism(row.row.backbone),
        "options": cell.options,
        "model": cell.model.model_dump(mode="json"),
        "trust": row.trust,
        "machines": row.machines,
        "agreement": None if row.agreement is None else asdict(row.agreement),
        "reproduced_cells": row.reproduced,
        "tuning": _tuning(row.tuning),
        "twin": _twin(row.twin),
        "longer": [_longer(one) for one in row.longer],
        "cells": len(used),
        "failed": [
            {"task": record.identity.task, "seed": record.identity.seed, "reason": record.failure.reason}
            for record in sorted(row.records, key=lambda one: (one.identity.task, one.identity.seed, one.key))
            if record.failure is not None
        ],
        "missing": list(row.missing),
        "seeds": list(row.seeds),
        "scores": {task: _score(row.scores[task]) for task in sorted(row.scores)},
        "aggregates": {name: _estimate(one) for name, one in row.aggregates.items()} or None,
        "profile": None if profile is None else asdict(profile),
        "cost": {column.key: _cost(row, column) for column in columns.COSTS},
        "spread": {one.key: list(row.spread[one.key]) if one.key in row.spread else None for one in columns.COSTS},
        **courses(used),
        "records": sorted(record.key for record in row.records),
    }


def _longer(one: Longer) -> dict[str, Any]:
    said = _picked(one, ("task", "times", "acting", "lag", "beyond"))
    return said | _estimate(Estimate(one.value, one.interval))


def _twin(one: Twin | None) -> dict[str, Any] | None:
    if one is None:
        return None
    found = {column.key: column.read(one) for column in columns.TWIN}
    return {
        "tasks": list(one.tasks),
        **{key: None if value is None else _estimate(value) for key, value in found.items()},
    }


def _tuning(one: Tuning | None) -> dict[str, Any] | None:
    if one is None:
        return None
    scores = [{"setting": words, "score": score} for words, score in one.scores.items()]
    read = {column.key: column.read(one) for column in columns.TUNING}
    return {"trials": scores, "tasks": list(one.tasks), "best": one.best, **read}


def _cost(row: Row, column: CostColumn) -> float | None:
    found = row.cost.get(column.key)
    return round(found) if found is not None and column.integer else found


def _score(score: Score) -> dict[str, Any]:
    seen = {"seeds": list(score.seeds), "values": list(score.values), "ratio": score.data_ratio, "raw": score.raw}
    return _estimate(score, len(score.seeds)) | seen


def _estimate(one: Estimate | Score, n: int = 1) -> dict[str, Any]:
    """Value, ends of its interval and over what that is; without an interval none, and ``n``."""
    none = {"low": None, "high": None, "over": None, "n": n, "method": None}
    return {"value": one.value, **(none if one.interval is None else asdict(one.interval))}


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _section_id(section: Section, taken: Collection[str]) -> str:
    setting = section.setting
    names = (setting.suite, setting.source, setting.preset, setting.acting, "tuned" * bool(setting.tuning))
    plain = _slug("-".join(name[:40] for name in names)) or "section"
    return next(name for n in count(1) if (name := plain if n == 1 else f"{plain}-{n}") not in taken)


def _row_id(row: Row, section: str) -> str:
    """Readable, and unique on the complete board by its digest."""
    content = json.dumps([section, *asdict(row.row).values()])
    digest = hashlib.sha256(content.encode()).hexdigest()[:10]
    return "-".join(part for part in (_slug(row.row.backbone[:40]), digest) if part)


def _sha256(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}") + 0.0  # no minus zero
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value
