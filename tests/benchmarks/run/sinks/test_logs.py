"""Every log that ``--track`` names: what a run leaves there, and that no trouble in it costs a cell."""

from __future__ import annotations

import importlib.util
import json
import math
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import record_factory as factory

from backbench.benchmarks.run import sinks
from backbench.benchmarks.run.sinks import open_log
from backbench.benchmarks.run.sinks.log import Log
from backbench.errors import UserError

RECORD = factory.make_record()
FAILED = factory.make_record(seed=1, failed="loss is nan")


def use(log: Log[Any]) -> None:
    """What a run calls: a cell that ends well, one that fails, one that leaves no record, one that is left open."""
    with log:
        log.start({"name": "bench run", "suite": "d4rl"})
        log.cell_started(RECORD.key, {"train": {"lr": 1e-3}})
        for step in range(5):
            log.metrics(RECORD.key, step, {"loss": 1.0 / (step + 1), "bad": math.nan})
        log.cell_finished(RECORD.key, RECORD)
        log.cell_finished(FAILED.key, FAILED)
        log.cell_failed("never-started", "no memory")
        log.cell_started("left-open", {})
        log.leave("left-open")
        log.leave("left-open")
        log.cell_started("open-at-the-end", {})
        log.board(factory.full_suite("gloma", 50))


def test_tensorboard_reads_a_run(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is an extra")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    warnings: list[str] = []
    log = open_log("tensorboard", tmp_path / "my results", warnings.append)
    assert not (tmp_path / "my results").exists()
    use(log)
    assert warnings == []
    folder = tmp_path / "my results" / "tensorboard"
    assert log.look == f"tensorboard --logdir '{folder}'"
    names = {RECORD.key, FAILED.key, "never-started", "left-open", "open-at-the-end", "board"}
    assert {path.name for path in folder.iterdir()} == names
    cell = EventAccumulator(str(folder / RECORD.key)).Reload()
    assert [(one.step, one.value) for one in cell.Scalars("loss")] == [
        (step, pytest.approx(1 / (step + 1))) for step in range(5)
    ]
    assert RECORD.scores is not None
    assert cell.Scalars("final/score")[0].value == pytest.approx(RECORD.scores.last.targets[0].normalised_mean)
    tags = cell.Tags()
    assert "bad" not in tags["scalars"]
    assert {"nonfinite.bad/text_summary", "settings/text_summary", "record/text_summary"} <= set(tags["tensors"])
    assert "iqm/gloma" in EventAccumulator(str(folder / "board")).Reload().Tags()["scalars"]


def test_wandb_keeps_a_run_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is an extra")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    warnings: list[str] = []
    log = open_log("wandb:mine", tmp_path, warnings.append)
    use(log)
    assert warnings == []
    assert log.look == f"wandb sync {tmp_path}/wandb/offline-run-*"
    found = [read(path) for path in sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))]
    runs = {run["name"]: run for run in found}
    assert set(runs) == {"bench run", RECORD.key, FAILED.key, "never-started", "left-open", "open-at-the-end"}
    assert {run["project"] for run in found} == {"mine"}
    assert len({run["group"] for run in found}) == 1
    cell = runs[RECORD.key]
    assert cell["loss"] == [pytest.approx(1 / (step + 1)) for step in range(5)]
    assert RECORD.scores is not None
    assert cell["summary"]["score"] == pytest.approx(RECORD.scores.last.targets[0].normalised_mean)
    assert (cell["exit"], runs[FAILED.key]["exit"], runs["never-started"]["exit"]) == (0, 1, 1)
    assert runs["never-started"]["summary"]["reason"] == "no memory"
    assert runs["bench run"]["summary"]["iqm/gloma"] == pytest.approx(50, abs=10)


def pieces(content: bytes) -> Iterator[bytes]:
    """The messages of a file in LevelDB's log format: blocks of 32 KiB, pieces of seven bytes (checksum, length, kind)
    and data; kinds: whole, first, middle, last. Seven bytes before them name the format."""
    place, data = 7, b""
    while place + 7 <= len(content):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        data += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield data
            data = b""


def read(path: Path) -> dict[str, Any]:
    """A run of Weights & Biases from the file that ``wandb sync`` sends."""
    from wandb.proto import wandb_internal_pb2

    found: dict[str, Any] = {"loss": [], "summary": {}}
    for data in pieces(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.HasField("run"):
            found |= {"name": record.run.display_name, "project": record.run.project, "group": record.run.run_group}
        for item in record.history.item:
            if "loss" in (item.key, *item.nested_key):
                found["loss"].append(json.loads(item.value_json))
        for item in record.summary.update:
            found["summary"][item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
        if record.HasField("exit"):
            found["exit"] = record.exit.exit_code
    return found


@pytest.mark.parametrize("kind", ["tensorboard", "wandb"])
def test_a_missing_package_is_named_before_anything_is_written(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=rf"--track {kind} needs the package {kind}.*backbench\[{kind}\]"):
        open_log(kind, tmp_path / "results", print)
    assert list(tmp_path.iterdir()) == []


def test_wandb_never_asks_for_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is an extra")
    monkeypatch.setenv("WANDB_MODE", "online")
    for name in ("WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match="there is no key; run `wandb login`, or set WANDB_MODE=offline"):
        open_log("wandb", tmp_path / "results", print)


@pytest.mark.parametrize("kind", ["tensorboard", "wandb"])
def test_trouble_in_a_log_is_said_once_and_costs_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec(kind) is None:
        pytest.skip(f"{kind} is an extra")
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "file").write_text("in the way")
    warnings: list[str] = []
    use(open_log(kind, tmp_path / "file" / "results", warnings.append))
    assert len(warnings) == 1
    assert "the run continues" in warnings[0]
    assert "\n" not in warnings[0]


def test_none_does_nothing_and_imports_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from backbench.benchmarks.run.sinks import open_log;"
        "t = open_log('none', Path(sys.argv[1]), print);"
        "t.start({}); t.cell_started('a', {}); t.metrics('a', 0, {'loss': 1.0}); t.cell_failed('a', 'no'); t.close();"
        "assert 'mlflow' not in sys.modules and 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "new")], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "new").exists()
