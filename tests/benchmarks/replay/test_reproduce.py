"""A cell comes again from its record alone, and what differs is said."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backbench.benchmarks.replay.reproduce import changes, compare, reproduce
from backbench.benchmarks.run import cell as cells
from backbench.benchmarks.run import provenance
from backbench.errors import UserError
from backbench.leaderboard.record.files import dump_record
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.scores.normalise import normalise
from backbench.leaderboard.trust.verify import verified_cells

COMMIT = "0123456789abcdef"


@pytest.fixture(scope="module")
def record(tiny_cell: Callable[..., Any], hopper_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Of a cell of a second, from a clean commit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "git_state", lambda: (COMMIT, False))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return cells.run_cell(tiny_cell("gloma"), tmp_path_factory.mktemp("then"), command=["bench", "run"])
        finally:
            torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "git_state", lambda: (COMMIT, False))


def changed(record: Record, **fields: Any) -> Record:
    """``record`` with some fields set, ``__`` between names and places."""
    content = json.loads(record.model_dump_json())
    for name, value in fields.items():
        *folders, last = name.split("__")
        part = content
        for folder in folders:
            part = part[int(folder) if isinstance(part, list) else folder]
        part[last] = value
    return Record.model_validate_json(json.dumps(content))


def scored(record: Record, *returns: float) -> Record:
    """``record`` with other returns for its first target, and all that follows from them."""
    mean = sum(returns) / len(returns)
    headline = "scores__last__targets__0__"
    points = normalise("d4rl", "hopper-medium", mean)
    values = {"returns": returns, "raw_mean": mean, "normalised_mean": points}
    # The best checkpoint may be the last one, whose score this is.
    last = changed(record, **{f"{headline}{name}": value for name, value in values.items()})
    if record.scores is None or record.scores.best is None or record.scores.best.step != record.scores.last.step:
        return last
    return changed(last, **{f"{headline.replace('last', 'best')}{name}": value for name, value in values.items()})


def written(record: Record, folder: Path) -> Path:
    path = folder / "published.json"
    dump_record(record, path)
    return path


def again(record: Record, folder: Path, **options: Any) -> tuple[Any, list[str]]:
    said: list[str] = []
    return reproduce(written(record, folder), folder / "again", say=said.append, **options), said


def test_equal_bits(record: Record, tmp_path: Path) -> None:
    found, said = again(record, tmp_path)
    assert (found.verdict, found.status) == ("equal bits", 0)
    assert f"equal bits: {record.key}" in said
    assert said[-len(found.lines)] == "the weights and the returns of 4 episodes are the same"
    now = json.loads((tmp_path / "again" / "records" / f"{record.key}.json").read_text())
    assert now["provenance"]["weights_sha256"] == record.provenance.weights_sha256
    assert now["provenance"]["command"] == f"bench reproduce {record.key}.json"
    assert now["provenance"]["threads"] == record.provenance.threads == 1
    with pytest.raises(UserError, match="is there already; name a fresh folder with --out"):
        again(record, tmp_path)


def test_an_edited_score_differs_by_so_much(record: Record, tmp_path: Path) -> None:
    assert record.headline is not None
    true = record.headline.returns
    edited = scored(record, true[0] + 100.0, true[1] + 50.0)
    found, said = again(edited, tmp_path)
    assert (found.verdict, found.status) == ("differs", 1)
    off = -75.0 / (3234.3 + 20.272305) * 100
    line = next(line for line in said if line.startswith(f"target {record.headline.target:g}: "))
    assert f" now, {off:+.2f} points; " in line
    low, high = sorted(normalise("d4rl", "hopper-medium", value) for value in edited.scores.last.targets[0].returns)  # type: ignore[union-attr]
    assert line.endswith(f"; {low:.2f} .. {high:.2f} by the record's own 2 episodes")


def test_only_the_weights_differ(record: Record) -> None:
    found = compare(changed(record, provenance__weights_sha256="0" * 64), record)
    assert (found.verdict, found.status) == ("equal score", 0)
    assert found.lines[0] == "the returns of 4 episodes are the same, the weights are not"


def test_the_headline_is_near(record: Record) -> None:
    assert record.headline is not None
    one, two = record.headline.returns
    points = 3254.572305 / 100
    for off, verdict in ((0.049, "equal score"), (0.051, "differs")):
        found = compare(scored(record, one + 2 * off * points, two), record)
        assert found.verdict == verdict
    assert "single returns" in compare(scored(record, one + 0.1, two), record).lines[0]


def test_it_fails_now(record: Record) -> None:
    failure = {"type": "Diverged", "message": "loss is not finite", "step": 3, "lr": 0.1}
    failed = changed(record, status="failed", scores=None, failure=failure)
    found = compare(record, failed)
    assert (found.verdict, found.lines[0]) == ("differs", "it failed now: loss is not finite")


def test_what_is_not_as_it_was_is_named(record: Record) -> None:
    other = changed(
        record, provenance__packages__torch="1.0", provenance__hardware__cpu="Another", provenance__threads=8,
        provenance__kernels={"selective_scan": "triton"}, provenance__git_commit="f" * 40,
    )  # fmt: skip
    lines = changes(record, other)
    assert f"git_commit: {COMMIT} then, {'f' * 40} now" in lines
    assert f"packages torch: {record.provenance.packages['torch']} then, 1.0 now" in lines
    assert f"cpu: {record.provenance.hardware.cpu} then, Another now" in lines
    assert "threads: 1 then, 8 now" in lines
    assert any(re.fullmatch(r"kernels selective_scan: \w+ then, triton now", line) for line in lines)
    assert changes(record, record) == []
    assert changes(record, changed(record, provenance__git_dirty=True)) == ["git_dirty: False then, True now"]
    assert changes(changed(record, provenance__git_dirty=None), record) == ["git_dirty: none then, False now"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cost__parameters_total": 10**6}, "cost.parameters_total: 1000000 then, "),
        ({"cost__parameters_backbone": 1}, "cost.parameters_backbone: 1 then, "),
        ({"cost__flops_per_token": 1.0}, "cost.flops_per_token: 1.0 then, "),
        ({"identity__data__episodes": 1}, "identity.data.episodes: 1 then, "),
        ({"identity__data__return_max": 1e5}, "identity.data.return_max: 100000.0 then, "),
        ({"identity__model__n_layers": 9}, "identity.model.n_layers: 9 then, "),
        ({"identity__options": {"deep": 1}}, "identity.options: {'deep': 1} then, "),
        ({"identity__variant": "mine"}, "identity.variant: mine then, "),
        ({"protocol__sampling": "greedy"}, "protocol.sampling: greedy then, deterministic now"),
        ({"protocol__return_scale": 7.0}, "protocol.return_scale: 7.0 then, "),
    ],
)
def test_an_edited_fact_differs(record: Record, fields: dict[str, Any], said: str) -> None:
    found = compare(changed(record, **fields), record)
    assert (found.verdict, found.status) == ("differs", 1)
    assert [line for line in found.lines if line.startswith(said)]
    # Whatever the weights are.
    assert compare(changed(record, provenance__weights_sha256="0" * 64, **fields), record).verdict == "differs"


def test_fewer_targets_than_were_declared(record: Record) -> None:
    one = record.protocol.targets[:1]
    content = json.loads(record.model_dump_json())
    content["protocol"]["targets"], content["scores"]["last"]["targets"] = one, content["scores"]["last"]["targets"][:1]
    found = compare(Record.model_validate_json(json.dumps(content)), record)
    assert found.verdict == "differs"
    assert any(line.startswith("protocol.targets: (") for line in found.lines)


def test_an_edited_course_of_training_differs(record: Record) -> None:
    step, loss = record.curve.loss[-1]
    edited = changed(record, curve__loss=[*record.curve.loss[:-1], (step, loss / 2)])
    found = compare(edited, record)
    said = f"curve.loss: {loss / 2:.6g} at step {step} then, {loss:.6g} at step {step} now"
    assert found.verdict == "differs"
    assert said in found.lines
    assert any("the clearest sign of an edit" in line for line in found.lines)
    # Other weights have other losses: it is only said.
    other = compare(changed(edited, provenance__weights_sha256="0" * 64), record)
    assert other.verdict == "equal score"
    assert said in other.lines
    assert "curve.loss: none then, " in str(compare(changed(record, curve__loss=[]), record).lines)


def test_an_edited_best_checkpoint_differs(record: Record) -> None:
    assert record.scores is not None
    best = json.loads(record.scores.last.model_dump_json())
    score = {**best["targets"][0], "returns": [9.0, 9.0], "raw_mean": 9.0}
    best |= {"step": 1, "targets": [{**score, "normalised_mean": normalise("d4rl", "hopper-medium", 9.0)}]}
    then = changed(record, scores__best=best)
    found = compare(then, changed(record, scores__best=None))
    assert found.verdict == "differs"
    assert any(re.fullmatch(r"scores.best: [\d.]+ at step 1 then, none now", line) for line in found.lines)
    assert compare(then, then).verdict == "equal bits"


def test_equal_weights_with_other_returns_are_pointed_out(record: Record) -> None:
    assert record.headline is not None
    one, two = record.headline.returns
    found = compare(scored(record, one + 500.0, two), record)
    assert found.verdict == "differs"
    assert "the weights are the same and what" in found.lines[0]
    near = compare(scored(record, one + 0.1, two), record)
    assert near.verdict == "equal score"
    assert "the clearest sign of an edit" in near.lines[1]


def test_timings_are_shown_and_not_judged(record: Record) -> None:
    slow = changed(record, cost__train_seconds=1e6)
    found = compare(slow, record)
    assert found.verdict == "equal bits"
    assert [line for line in found.lines if line.startswith("not judged, then/now: train_seconds 1e+06/")]


def test_other_data_are_refused_before_anything_is_trained(record: Record, tmp_path: Path) -> None:
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
        ({"identity__backbone": "not_here.at_all:Deep"}, "Deep is not here (No module named 'not_here'); get it"),
        ({"identity__backbone": "glomma"}, "did you mean 'gloma'?"),
        ({"provenance__device": "cuda"}, "device 'cuda' is not available"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_again(
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


def test_what_is_no_record_to_reproduce(record: Record, tmp_path: Path) -> None:
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


def test_a_second_machine_verifies(record: Record, tmp_path: Path) -> None:
    then = changed(record, provenance__hardware__cpu="A machine far away")
    found, said = again(then, tmp_path, to=tmp_path / "verifications")
    assert found.verdict == "equal bits"
    (path,) = (tmp_path / "verifications" / "d4rl").iterdir()
    assert said[-1] == f"submitted: {path}"
    assert verified_cells([then], [Record.model_validate_json(path.read_text())]) == {record.key}


def test_the_same_machine_verifies_nothing(record: Record, tmp_path: Path) -> None:
    _, said = again(record, tmp_path, to=tmp_path / "verifications")
    cpu = record.provenance.hardware.cpu
    assert said[-1] == f"not submitted: this is the same kind of machine as the record's ({cpu})"
    assert not (tmp_path / "verifications").exists()


def test_a_changed_tree_verifies_nothing(record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "git_state", lambda: (COMMIT, True))
    then = changed(record, provenance__platform="Another system")
    with pytest.raises(UserError, match=r"not submitted: .*git_dirty: its code differed from its commit"):
        again(then, tmp_path, to=tmp_path / "verifications")
    assert not (tmp_path / "verifications").exists()


def test_the_interval_is_of_the_episodes(record: Record) -> None:
    """Of two episodes the interval ends at them; of equal ones it is a point."""
    found = compare(scored(record, 100.0, 100.0), record)
    points = normalise("d4rl", "hopper-medium", 100.0)
    said = f"; {points:.2f} .. {points:.2f} by the record's own 2 episodes"
    assert [line.endswith(said) for line in found.lines if line.startswith("target ")] == [True, False]
    assert np.isfinite(points)


def test_a_copy_verifies_nothing(record: Record) -> None:
    """Only the processor is another's."""
    then = changed(record, provenance__hardware__cpu="A machine far away")
    assert verified_cells([then], [record]) == frozenset()
    later = changed(record, provenance__started="2000-01-01T00:00:00Z")
    assert verified_cells([then], [later]) == frozenset()
    assert verified_cells([then], [changed(later, cost__train_seconds=123.0)]) == {record.key}


def test_the_command(record: Record, tmp_path: Path, bench: Callable[..., Any], hopper_store: Path) -> None:
    path = written(record, tmp_path)
    done = bench("reproduce", path, "--data", hopper_store)
    assert (done.code, done.err) == (0, "")
    assert f"equal bits: {record.key}" in done.out.splitlines()
    assert (tmp_path / "reproduced" / "records" / f"{record.key}.json").is_file()
    refused = bench("reproduce", path)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
