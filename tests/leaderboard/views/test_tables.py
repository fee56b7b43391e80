"""The view that CSV, JSON and the page are made from: what is in it, and that equal records are equal bytes."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import HELPERS
from record_factory import full_suite, make_record

from backbench.leaderboard.board.board import build_board
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.record.suites import SUITES
from backbench.leaderboard.views.tables import to_csv, to_json, to_view


def view(records: list[Record], **options: Any) -> dict[str, Any]:
    return to_view(build_board(records, **options), records)


def lines(records: list[Record]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(view(records)), newline="")))


def test_a_view_holds_every_number_of_the_board() -> None:
    records = [*full_suite("gloma", 40.0), *full_suite("mamba", 60.0), make_record("mlp", seed=4, failed="x")]
    found = view(records)
    assert (found["version"], found["records"]) == (1, 55)
    (section,) = found["sections"]
    assert section["id"] == "d4rl-embedded-quick-window"
    assert section["tasks"] == list(SUITES["d4rl"])
    assert (section["complete"], section["apart"], section["apart_from"]) == (True, [], None)
    assert section["versions"] == {"backbench": "0.1.0", "gymnasium": "unknown", "mujoco": "unknown"}
    assert section["task_settings"]["hopper-medium"] | {"data_sha256": None} == {
        "context": 20, "targets": [3600.0, 1800.0], "max_steps": 1000, "environment": "Hopper-v5",
        "returns_to_go": "raw", "data_sha256": None,
    }  # fmt: skip
    gloma, mamba, mlp = section["rows"]
    assert gloma["scores"]["hopper-medium"] == {
        "value": 45.0, "low": 43.0, "high": 47.0, "over": "seeds", "n": 3, "method": "bootstrap",
        "seeds": [0, 1, 2],
        "values": [43.0, 45.0, 47.0], "ratio": 1.02273, "raw": 1444.29,
    }  # fmt: skip
    assert gloma["aggregates"]["iqm"]["value"] == 46.0
    assert gloma["aggregates"]["optimality_gap"]["value"] == 0.54
    assert (gloma["seeds"], gloma["cells"], gloma["trust"]) == ([0, 1, 2], 27, "self-reported")
    assert gloma["cost"]["parameters"] == 27_000
    assert isinstance(gloma["cost"]["parameters"], int)
    assert mlp["aggregates"] is mlp["profile"] is mlp["cost"]["parameters"] is None
    assert mlp["failed"] == [{"task": "hopper-medium", "seed": 4, "reason": "NonFiniteLoss: x (step 7)"}]
    assert found["failed"] == [
        {"section": section["id"], "row": mlp["id"], "task": "hopper-medium", "seed": 4,
         "reason": "NonFiniteLoss: x (step 7)", "record": records[-1].key}
    ]  # fmt: skip
    assert mlp["missing"] == list(SUITES["d4rl"])
    assert section["pareto"]["parameters"] == [mamba["id"]]
    assert section["improvement"][0] == {
        "x": gloma["id"], "y": mamba["id"], "probability": 0.0, "low": 0.0, "high": 0.0,
            "decided": False,
    }  # fmt: skip
    paired = section["paired"][1]
    assert (paired["x"], paired["y"], paired["over"], paired["decided"]) == (
        mamba["id"], gloma["id"], "seeds and starts", True,
    )  # fmt: skip
    assert paired["difference"] == 20.0
    assert 16.0 < paired["low"] < 20.0 < paired["high"] < 24.0
    assert found["cells"][records[0].key] == {
        "section": section["id"], "row": gloma["id"], "task": "halfcheetah-medium", "seed": 0, "status": "done",
        "score": 40.0, "record": records[0].model_dump(mode="json"),
    }  # fmt: skip
    assert found["cells"][records[-1].key]["score"] is None
    assert sorted(key for row in section["rows"] for key in row["records"]) == sorted(found["cells"])


def test_no_records_make_an_empty_view() -> None:
    found = view([])
    assert (found["records"], found["sections"], found["failed"], found["cells"]) == (0, [], [], {})
    assert to_csv(found).count("\r\n") == 1


def test_equal_records_are_equal_bytes() -> None:
    records = [*full_suite("gloma", 40.0), *full_suite("mamba", 41.0, seeds=(0,)), make_record(preset="paper")]
    text = to_json(view(records))
    random.Random(0).shuffle(records)
    assert to_json(view(records)) == text
    assert text.endswith("}\n")
    whole = view(records)
    for cell in whole["cells"].values():
        assert Record.model_validate_json(json.dumps(cell.pop("record"))) in records  # a file already
    assert json.loads(text) == whole


def test_the_digest_is_over_all_records() -> None:
    records = [make_record(seed=seed) for seed in (1, 0)]
    pairs = []
    for record in sorted(records, key=lambda one: one.key):
        canonical = json.dumps(record.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        pairs.append([record.key, hashlib.sha256(canonical.encode()).hexdigest()])
    expected = hashlib.sha256(json.dumps(pairs, separators=(",", ":")).encode()).hexdigest()
    assert view(records)["digest"] == expected
    changed = make_record(seed=0, provenance__threads=2)
    changed = Record.model_validate({**changed.model_dump(), "key": records[1].key})
    assert view([records[0], changed])["digest"] != expected


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
@settings(max_examples=40, deadline=None)
def test_floats_have_six_digits_and_records_have_all(score: float) -> None:
    record = make_record(curve__loss=[(0, score)])
    found = view([record])
    ((_, shown, _, _),) = found["sections"][0]["rows"][0]["curves"]["hopper-medium"]
    assert shown == float(f"{score:.6g}")
    assert found["cells"][record.key]["record"]["curve"]["loss"][0][1] == score


def test_ids_are_unique_and_safe() -> None:
    names = ["../../x", '"><img src=x onerror=alert(1)>', "<script>", "A", "a", "ä", "x" * 300]
    records = [make_record(f"b{name}", variant=variant) for name in names for variant in ("", "train.lr=1")]
    records += [make_record("A", preset=preset) for preset in ("!", "?", "quick/../x")]
    found = view(records)
    sections = [section["id"] for section in found["sections"]]
    rows = [row["id"] for section in found["sections"] for row in section["rows"]]
    assert len(set(sections)) == len(sections) == 4
    assert len(set(rows)) == len(rows) == 17
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", one) and len(one) < 80 for one in rows)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", one) for one in sections)
    again = view(random.Random(1).sample(records, len(records)))
    assert [row["id"] for section in again["sections"] for row in section["rows"]] == rows


def test_a_row_keeps_its_id_when_others_come() -> None:
    alone = view([make_record("gloma")])["sections"][0]["rows"][0]["id"]
    more = view([make_record("gloma"), *full_suite("mamba", 40.0)])["sections"][0]["rows"][0]["id"]
    assert alone == more


def test_a_row_is_verified_when_all_its_cells_are() -> None:
    records = [make_record(seed=0), make_record(seed=1), make_record(seed=2, failed="x")]
    for keys, trust, count in (
        ([], "self-reported", 0),
        ([records[0].key, "other"], "self-reported", 1),
        ([records[0].key, records[1].key], "reproduced", 2),
    ):
        (row,) = view(records, reproduced=frozenset(keys))["sections"][0]["rows"]
        assert (row["trust"], row["reproduced_cells"], row["cells"]) == (trust, count, 2)
    (failed,) = view([records[2]], reproduced=frozenset([records[2].key]))["sections"][0]["rows"]
    assert failed["trust"] == "self-reported"


def test_csv_has_a_line_for_each_task_and_aggregate() -> None:
    found = lines([*full_suite("gloma", 40.0), make_record("mamba")])
    assert [line["name"] for line in found] == [
        *SUITES["d4rl"], "mean", "median", "iqm", "optimality_gap", "hopper-medium",
    ]  # fmt: skip
    task = next(line for line in found if line["name"] == "hopper-medium")
    assert {name: task[name] for name in ("label", "kind", "value", "low", "high", "over", "n", "seeds", "ratio")} == {
        "label": "gloma", "kind": "task", "value": "45.0", "low": "43.0", "high": "47.0", "over": "seeds", "n": "3",
        "seeds": "0 1 2", "ratio": "1.02273",
    }  # fmt: skip
    assert (task["data"], task["parameters"], task["decision_p95_ms"]) == ("44.0", "27000", "2.5")
    mean = next(line for line in found if line["name"] == "mean")
    assert (mean["kind"], mean["value"], mean["data"], mean["seeds"], mean["raw"]) == (
        "aggregate", "46.0", "44.0", "0 1 2", "",
    )  # fmt: skip


@pytest.mark.parametrize("sign", ["=", "+", "-", "@"])
def test_names_in_csv_cannot_start_a_formula(sign: str) -> None:
    name = f'{sign}HYPERLINK("http://x";"y"),\n1'
    record = make_record("b", scores=[-5.0] * 3, variant=name, preset=f"{sign}1")
    (line,) = lines([record])
    assert line["variant"] == f"'{name}"
    assert line["preset"] == f"'{sign}1"
    assert line["value"] == "-5.0"  # a number stays one


def test_a_thousand_records_within_seconds_and_without_heavy_imports() -> None:
    code = """
import sys, time
from paths import HELPERS
from record_factory import full_suite
from backbench.leaderboard.board.board import build_board
from backbench.leaderboard.views.tables import to_csv, to_json, to_view
records = [one for index in range(37) for one in full_suite(f"b{index}", 20.0 + index)]
begun = time.process_time()
view = to_view(build_board(records), records)
to_json(view), to_csv(view)
heavy = ("torch", "gymnasium", "h5py", "backbench.benchmarks", "backbench.agents", "backbench.backbones")
print(len(records), time.process_time() - begun, sum(name in sys.modules for name in heavy))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=HELPERS, capture_output=True, text=True, check=True)
    count, seconds, heavy = done.stdout.split()
    assert (int(count), int(heavy), float(seconds) < 8.0) == (999, 0, True), seconds
