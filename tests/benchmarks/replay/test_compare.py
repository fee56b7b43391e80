"""A comparison names every difference between two records of a cell."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from edited_records import COMMIT, changed, scored

from backbench.benchmarks.replay.compare import changes, compare
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.scores.normalise import normalise
from backbench.leaderboard.trust.verify import reproduced_cells


def test_other_weights_with_the_same_returns_are_an_equal_score(record: Record) -> None:
    found = compare(changed(record, provenance__weights_sha256="0" * 64), record)
    assert (found.verdict, found.status) == ("equal score", 0)
    assert found.lines[0] == "the returns of 4 episodes are the same, the weights are not"


def test_a_headline_within_the_slack_is_an_equal_score(record: Record) -> None:
    assert record.headline is not None
    one, two = record.headline.returns
    points = 3254.572305 / 100
    for off, verdict in ((0.049, "equal score"), (0.051, "differs")):
        found = compare(scored(record, one + 2 * off * points, two), record)
        assert found.verdict == verdict
    assert "single returns" in compare(scored(record, one + 0.1, two), record).lines[0]


def other_seeds(record: Record, *scores: float) -> list[Record]:
    """Records of further seeds with these headline scores."""
    found = []
    for seed, score in enumerate(scores, start=1):
        raw = -20.272305 + 3254.572305 * score / 100
        found.append(changed(scored(record, raw, raw), identity__seed=record.identity.seed + seed))
    return found


def test_on_another_machine_a_score_among_the_seeds_is_consistent(record: Record) -> None:
    assert record.headline is not None
    base = record.headline.normalised_mean
    row = other_seeds(record, base - 10, base + 10)  # a standard deviation of 10 with three seeds
    reach = 2.91998558 * 10 * np.sqrt(2)  # Student's t, 2 degrees of freedom, 95 %

    def again(off: float, **more: Any) -> Record:
        points = 3254.572305 / 100
        other = scored(record, *(value + off * points for value in record.headline.returns))
        return changed(other, provenance__weights_sha256="0" * 64, **more)

    elsewhere = {"provenance__hardware__cpu": "Another"}
    for off, more, verdict in (
        (reach - 0.1, elsewhere, "consistent"), (reach + 0.1, elsewhere, "differs"), (5.0, {}, "differs"),
        (5.0, {"provenance__git_commit": "f" * 40}, "differs"),
        (5.0, {"provenance__packages__torch": "1.0"}, "consistent"),
        (0.01, elsewhere, "equal score"), (5.0, elsewhere | {"cost__parameters_total": 1 << 30}, "differs"),
    ):  # fmt: skip
        found = compare(record, again(off, **more), row)
        assert (found.verdict, found.status) == (verdict, int(verdict == "differs")), (off, more)
    lines = compare(record, again(5.0, **elsewhere), row).lines
    assert any(line.startswith("two seeds of this row lie within 41.3") for line in lines)
    assert compare(record, again(5.0, **elsewhere), row[:1]).verdict == "differs", "two seeds tell too little"


def test_a_failed_second_run_differs(record: Record) -> None:
    failure = {"type": "Diverged", "message": "loss is not finite", "step": 3, "lr": 0.1}
    failed = changed(record, status="failed", scores=None, failure=failure)
    found = compare(record, failed)
    assert (found.verdict, found.lines[0]) == ("differs", "it failed now: loss is not finite")


def test_changes_of_machine_code_and_packages_are_listed(record: Record) -> None:
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


def test_a_record_with_fewer_targets_differs(record: Record) -> None:
    one = record.protocol.targets[:1]
    content = json.loads(record.model_dump_json())
    content["protocol"]["targets"], content["scores"]["last"]["targets"] = one, content["scores"]["last"]["targets"][:1]
    found = compare(Record.model_validate_json(json.dumps(content)), record)
    assert found.verdict == "differs"
    assert any(line.startswith("protocol.targets: (") for line in found.lines)


def test_an_edited_loss_differs_if_the_weights_are_equal(record: Record) -> None:
    step, loss = record.curve.loss[-1]
    edited = changed(record, curve__loss=[*record.curve.loss[:-1], (step, loss / 2)])
    found = compare(edited, record)
    said = f"curve.loss: {loss / 2:.6g} at step {step} then, {loss:.6g} at step {step} now"
    assert found.verdict == "differs"
    assert said in found.lines
    assert any("the clearest sign of an edited record" in line for line in found.lines)
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


def test_equal_weights_with_other_returns_are_called_an_edit(record: Record) -> None:
    assert record.headline is not None
    one, two = record.headline.returns
    found = compare(scored(record, one + 500.0, two), record)
    assert found.verdict == "differs"
    assert "the weights are the same, but their" in found.lines[0]
    near = compare(scored(record, one + 0.1, two), record)
    assert near.verdict == "equal score"
    assert "the clearest sign of an edited record" in near.lines[1]


def test_timings_are_shown_and_not_judged(record: Record) -> None:
    slow = changed(record, cost__train_seconds=1e6)
    found = compare(slow, record)
    assert found.verdict == "equal bits"
    assert [line for line in found.lines if line.startswith("not judged, then/now: train_seconds 1e+06/")]


def test_the_interval_is_that_of_the_records_episodes(record: Record) -> None:
    """Of two episodes the interval ends at them; of equal ones it is a point."""
    found = compare(scored(record, 100.0, 100.0), record)
    points = normalise("d4rl", "hopper-medium", 100.0)
    said = f"; {points:.2f} .. {points:.2f} in the record's own 2 episodes"
    assert [line.endswith(said) for line in found.lines if line.startswith("target ")] == [True, False]
    assert np.isfinite(points)


def test_a_copied_record_verifies_nothing(record: Record) -> None:
    """Only the processor is another's."""
    then = changed(record, provenance__hardware__cpu="A machine far away")
    assert reproduced_cells([then], [record]) == frozenset()
    later = changed(record, provenance__started="2000-01-01T00:00:00Z")
    assert reproduced_cells([then], [later]) == frozenset()
    assert reproduced_cells([then], [changed(later, cost__train_seconds=123.0)]) == {record.key}
