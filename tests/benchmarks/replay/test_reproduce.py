"""``bench reproduce`` runs a cell again from its record alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from edited_records import COMMIT, changed, scored

from backbench.benchmarks.replay.reproduce import reproduce
from backbench.benchmarks.run import provenance
from backbench.errors import UserError
from backbench.leaderboard.record.files import dump_record
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.scores.normalise import normalise
from backbench.leaderboard.trust.verify import reproduced_cells


def written(record: Record, folder: Path) -> Path:
    path = folder / "published.json"
    dump_record(record, path)
    return path


def again(record: Record, folder: Path, **options: Any) -> tuple[Any, list[str]]:
    said: list[str] = []
    return reproduce(written(record, folder), folder / "again", say=said.append, **options), said


def test_an_unchanged_record_gives_equal_bits(record: Record, tmp_path: Path) -> None:
    found, said = again(record, tmp_path)
    assert (found.verdict, found.status) == ("equal bits", 0)
    assert f"equal bits: {record.key}" in said
    assert said[-len(found.lines)] == "the weights and the returns of 4 episodes are the same"
    now = json.loads((tmp_path / "again" / "records" / f"{record.key}.json").read_text())
    assert now["provenance"]["weights_sha256"] == record.provenance.weights_sha256
    assert now["provenance"]["command"] == f"bench reproduce {record.key}.json"
    assert now["provenance"]["threads"] == record.provenance.threads == 1
    with pytest.raises(UserError, match="exists already; name a fresh folder with --out"):
        again(record, tmp_path)


def test_a_record_plays_its_layers_one_by_one_if_it_does_not_name_them(record: Record, tmp_path: Path) -> None:
    older = {name: one for name, one in record.provenance.kernels.items() if name != "layers"}
    again(changed(record, provenance__kernels=older), tmp_path)
    now = json.loads((tmp_path / "again" / "records" / f"{record.key}.json").read_text())
    assert now["provenance"]["kernels"] == older


def test_an_edited_score_differs_and_the_difference_is_printed(record: Record, tmp_path: Path) -> None:
    assert record.headline is not None
    true = record.headline.returns
    edited = scored(record, true[0] + 100.0, true[1] + 50.0)
    found, said = again(edited, tmp_path)
    assert (found.verdict, found.status) == ("differs", 1)
    off = -75.0 / (3234.3 + 20.272305) * 100
    line = next(line for line in said if line.startswith(f"target {record.headline.target:g}: "))
    assert f" now, difference {off:+.2f}; " in line
    low, high = sorted(normalise("d4rl", "hopper-medium", value) for value in edited.scores.last.targets[0].returns)  # type: ignore[union-attr]
    assert line.endswith(f"; {low:.2f} .. {high:.2f} in the record's own 2 episodes")


def test_other_data_are_refused_before_training(record: Record, tmp_path: Path) -> None:
    other = changed(record, identity__data__sha256="ab" * 32)
    assert record.identity.data is not None
    with pytest.raises(UserError, match=f"has hash {record.identity.data.sha256}, and the record was made with abab"):
        again(other, tmp_path)
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"provenance__config__train__lr": 0.5}, "its settings make the cell gloma.hopper-medium"),
        ({"provenance__config__train__depth": 3}, "settings of the record: unknown train.depth"),
        ({"identity__backbone": "glomma"}, "identity.backbone: 'glomma', and 'gloma' in prov"),
        ({"provenance__device": "cuda"}, "device 'cuda' is not available"),
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_rebuilt_is_refused_in_one_line(
    record: Record, tmp_path: Path, fields: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError) as caught:
        again(changed(record, **fields), tmp_path)
    assert said in str(caught.value)
    assert "pip install" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "again").exists()


def test_a_failed_foreign_or_missing_record_is_refused(record: Record, tmp_path: Path) -> None:
    failure = {"type": "Diverged", "message": "no luck"}
    failed = changed(record, status="failed", scores=None, failure=failure)
    with pytest.raises(UserError, match=r"the cell failed \(no luck\); there is no score to reproduce"):
        again(failed, tmp_path)
    path = written(record, tmp_path)
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    with pytest.raises(UserError, match="schema_version: 2 is another version of the schema"):
        reproduce(path, tmp_path / "again")
    with pytest.raises(UserError, match="there is no such record"):
        reproduce(tmp_path / "none.json", tmp_path / "again")


def test_a_record_from_a_second_machine_is_submitted_and_verifies(record: Record, tmp_path: Path) -> None:
    # A second run within the same second would count as a copy.
    earlier = {"provenance__started": "2026-01-02T03:04:05Z"}
    then = changed(record, provenance__hardware__cpu="A machine far away", **earlier)
    found, said = again(then, tmp_path, to=tmp_path / "verifications")
    assert found.verdict == "equal bits"
    (path,) = (tmp_path / "verifications" / "d4rl").iterdir()
    assert said[-1] == f"submitted: {path}"
    assert reproduced_cells([then], [Record.model_validate_json(path.read_text())]) == {record.key}


def test_a_record_from_the_same_machine_is_not_submitted(record: Record, tmp_path: Path) -> None:
    _, said = again(record, tmp_path, to=tmp_path / "verifications")
    cpu = record.provenance.hardware.cpu
    assert said[-1] == f"not submitted: this is the same kind of machine as the record's ({cpu})"
    assert not (tmp_path / "verifications").exists()


def test_a_record_of_changed_code_is_not_submitted(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "git_state", lambda: (COMMIT, True))
    then = changed(record, provenance__platform="Another system")
    with pytest.raises(UserError, match=r"not submitted: .*git_dirty: its code differed from its commit"):
        again(then, tmp_path, to=tmp_path / "verifications")
    assert not (tmp_path / "verifications").exists()


def test_command_prints_the_verdict_and_writes_the_record(
    record: Record, tmp_path: Path, bench: Callable[..., Any], hopper_store: Path
) -> None:
    path = written(record, tmp_path)
    done = bench("reproduce", path, "--data", hopper_store)
    assert (done.code, done.err) == (0, "")
    assert f"equal bits: {record.key}" in done.out.splitlines()
    assert (tmp_path / "reproduced" / "records" / f"{record.key}.json").is_file()
    refused = bench("reproduce", path)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
