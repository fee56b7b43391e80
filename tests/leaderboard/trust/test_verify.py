"""What speaks against a record, and which records a second machine verifies."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from record_factory import make_record
from whole_record import NOW, whole_record

from backbench.leaderboard.record.files import canonical, dump_record, load_record
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.trust.verify import doubts, other_machine, reproduced_cells, why_not_reproduced


def test_a_consistent_record_raises_no_doubts() -> None:
    assert doubts(whole_record(), NOW) == []
    assert doubts(whole_record("my_package.models:Deep", "walker2d-medium", 7, variant="train.lr=0.1"), NOW) == []
    assert doubts(whole_record(failed="loss is not finite"), NOW) == []


RETURNS = "scores__last__targets__0__returns"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"identity__backbone": "<script>alert(1)</script>"}, "identity.backbone: '<script>alert(1)</script>' is nei"),
        ({"identity__seed": 3}, "identity.seed: 3, and 0 in provenance.config"),
        ({"identity__options": {"n_heads": 8}}, "identity.options: {'n_heads': 8}, and {'n_heads': 4} in prov"),
        ({"identity__preset": "paper"}, "identity.preset: 'paper', and 'quick' in provenance.config"),
        ({"identity__variant": "x"}, "identity.variant: 'x', and '' in provenance.config"),
        ({"identity__environment": "Hopper-v4"}, "identity.environment: 'Hopper-v4', and 'Hopper-v5' in prov"),
        ({"identity__source": "d4rl"}, "identity.source: 'd4rl', and 'embedded' in provenance.config"),
        ({"identity__data__id": "a/b-v0"}, "identity.data.id: 'a/b-v0', and 'embedded/hopper-medium-v0' in prov"),
        ({"identity__model__d_model": 33}, "identity.model.d_model: 33, and 32 in provenance.config"),
        ({"identity__model__dropout": 0.2}, "identity.model.dropout: 0.2, and 0.1 in provenance.config"),
        ({"identity__model__extra": {"timestep": "window"}}, "identity.model.extra.timestep: 'window', and 'step'"),
        ({"protocol__context": 21}, "protocol.context: 21, and 20 in provenance.config"),
        ({"protocol__acting": "recurrent"}, "protocol.acting: 'recurrent', and 'window' in provenance.config"),
        ({"protocol__timestep": "current"}, "protocol.timestep: 'current', and 'first' in provenance.config"),
        ({"provenance__config__model__init": "torch"}, "identity.model.extra.init: None, and 'torch' in provenance"),
        ({"provenance__config__eval__timestep": "current"}, "protocol.timestep: 'first', and 'current' in prov"),
        ({"protocol__eval_seed": 1}, "protocol.eval_seed: 1, and 10000 in provenance.config"),
        ({"protocol__max_steps": 2000}, "protocol.max_steps: 2000, and 1000 in provenance.config"),
        ({"protocol__returns_to_go": "clipped"}, "protocol.returns_to_go: 'clipped', and 'raw' in provenance.config"),
        ({"scores__last__step": 1999}, "scores.last.step: 1999, and 2000 in provenance.config"),
        ({"provenance__dtype": "bfloat16"}, "provenance.dtype: 'bfloat16', and 'float32' in provenance.config"),
        ({"curve__loss": [(2001, 1.0)]}, "curve.loss: goes to step 2001 of 2000"),
        ({"key": "transformer.hopper-medium.embedded.quick.s0.00000000"}, "key: 'transformer.hopper-medium.embedded"),
        ({"provenance__config__train__lr": 0.5}, "key: "),
        ({"provenance__config": {"train": {"steps": 1}}}, "provenance.config: has no 'task'"),
        ({"provenance__config__train": 3}, "provenance.config: is not as a cell's"),
        ({"provenance__packages__torch": "latest"}, "provenance.packages: torch is 'latest', which is no version"),
        ({"provenance__packages": {}}, "provenance.packages: backbench is 'missing', which is no version"),
        ({"provenance__kernels": {"scan": "/home/me/scan.so"}}, "provenance.kernels.scan: '/home/me/scan.so' holds an"),
        ({"provenance__command": "bench run # me@box"}, "provenance.command: 'me@box' looks like a user at a host"),
        ({"provenance__started": "2026-06-03T00:00:00Z"}, "provenance.started: 2026-06-03T00:00:00Z has not come yet"),
        ({"cost__train_tokens_per_s": 17_000.0}, "cost.train_tokens_per_s: 1.02e+06 tokens in train_seconds, and 2.4e"),
        ({"cost__train_seconds": 29.0}, "cost.train_tokens_per_s: 1.19e+06 tokens in train_seconds, and 2.4e"),
        ({"cost__train_seconds": 240.0}, "cost.train_tokens_per_s: 9.84e+06 tokens in train_seconds, and 2.4e"),
        ({"identity__data__steps": 99}, "identity.data.steps: 99 in 100 episodes"),
        ({"identity__data__return_std": 501.0}, "identity.data.return_std: is more than half of the distance"),
        ({"cost__train_seconds": 0.0}, "cost.train_seconds: is 0, and nothing takes no time"),
        ({"cost__eval_seconds": 0.0}, "cost.eval_seconds: is 0"),
        ({"cost__decision__p50_ms": 0.0}, "cost.decision.p50_ms: is 0, and nothing takes no time"),
        ({"cost__parameters_backbone": 0, "cost__parameters_total": 0}, "cost.parameters_total: is 0, and something"),
        ({"cost__wall_seconds": 0.07}, "cost.wall_seconds: 0.07, and timing the decisions alone took longer"),
        ({"scores__best": {"step": 2001, "targets": [whole_record().scores.last.targets[0].model_dump()]}},  # type: ignore[union-attr]
         "scores.best.step: 2001 of 2000"),
        ({"provenance__config__eval__curve_episodes": 3,
          "scores__best": {"step": 20, "targets": [whole_record().scores.last.targets[0].model_dump()]}},  # type: ignore[union-attr]
         "scores.best: is there, and no evaluation during training was scored"),
        ({"identity__suite_tasks": ["hopper-medium"]}, "identity.suite_tasks: suite d4rl is known"),
        ({"identity__variant": "a\x1b[31mb"}, "identity.variant: 'a\\x1b[31mb' holds the character U+001B, which is"),
        ({"provenance__command": "bench \u202erun"}, "provenance.command: 'bench \\u202erun' holds the character U+"),
        ({"identity__options": {"n\x00": 1}}, "identity.options: 'n\\x00' holds the character U+0000"),
        ({"provenance__platform": "a\nb"}, "provenance.platform: 'a\\nb' holds the character U+000A"),
        ({"scores__last__targets__0__lengths": [100, 100, 1000]}, "scores.last.targets.0.returns.0: 1281"),
    ],
)  # fmt: skip
def test_contradictions_within_a_record_are_named(changes: dict[str, Any], said: str) -> None:
    plain = {name: value for name, value in changes.items() if "__" in name}
    record = whole_record(**plain)
    if "key" in changes:
        record = record.model_copy(update={"key": changes["key"]})
    found = doubts(record, NOW)
    assert any(line.startswith(said) for line in found), found


def test_a_failure_message_may_have_several_lines() -> None:
    def of(message: str) -> list[str]:
        return [line for line in doubts(whole_record(failed=message), NOW) if line.startswith("failure")]

    assert of("out of memory:\n\tallocate less") == []
    assert of("\x1b]0;me\x07")[0].startswith("failure.message: '\\x1b]0;me\\x07' holds the character U+001B")


def test_a_slow_start_is_no_contradiction() -> None:
    """100 of the 160 seconds were a compiler's: the rate is of the rest."""
    assert doubts(whole_record(cost__train_seconds=160.0), NOW) == []


def a_game(returns: Sequence[float], lowest: float = -21.0) -> Record:
    """A record of Pong, whatever else it says."""
    content = json.loads(canonical(make_record()))
    score = {"target": 3600.0, "returns": returns, "lengths": [900] * len(returns)}
    mean = sum(returns) / len(returns)
    score |= {"raw_mean": mean, "normalised_mean": mean}
    content["scores"]["last"]["targets"] = [score, {**score, "target": 1800.0}]
    content["identity"] |= {"environment": "ALE/Pong-v5", "task": "pong", "suite": "atari"}
    content["identity"]["data"] |= {"return_min": lowest, "return_max": 21.0, "return_mean": 0.0, "return_std": 1.0}
    content["identity"]["data"]["normalised_mean"] = 0.0
    content["protocol"] |= {"normaliser": "none", "episodes": len(returns)}
    content["curve"] = {"loss": [], "evaluations": []}
    return Record.model_validate_json(json.dumps(content))


def test_atari_returns_are_bounded_integers() -> None:
    def of(record: Record) -> list[str]:
        return [line for line in doubts(record, NOW) if line.startswith(("scores", "identity.data"))]

    assert of(a_game([21.0, -21.0])) == []
    (first, _) = of(a_game([21.0, 22.0]))
    assert first == "scores.last.targets.0.returns.1: 22 in 900 steps, and ALE/Pong-v5 gives -21 .. 21"
    assert of(a_game([20.5]))[0] == "scores.last.targets.0.returns.0: 20.5, and a game's score is an integer"
    assert of(a_game([1.0], -22.0)) == ["identity.data.return_min: -22, and the game's smallest return is -21"]
    assert "protocol.normaliser: 'none', and atari has 'dt-gamer'" in doubts(a_game([1.0]), NOW)
    assert any("ale-py is 'missing'" in line for line in doubts(a_game([1.0]), NOW))


def elsewhere(**changes: Any) -> Record:
    return whole_record(**{"provenance__hardware__cpu": "Another CPU", **changes})


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (lambda: elsewhere(), ""),
        (lambda: whole_record(provenance__platform="Linux aarch64"), ""),
        (lambda: whole_record(provenance__hardware__gpu="A GPU"), ""),
        (lambda: elsewhere(scores=(40.1, 50.0, 60.0)), ""),
        (lambda: whole_record(), "it began in the same second: it is a copy"),
        (lambda: elsewhere(provenance__started="2026-01-31T12:00:00Z"), "it began in the same second: it is a copy"),
        (lambda: elsewhere(cost__train_seconds=60.0, cost__wall_seconds=82.0), "its times are the same to the last "
         "digit: it is a copy"),
        (lambda: elsewhere(cost__train_seconds=60.0, cost__wall_seconds=82.0, cost__parameters_total=30_000),
         "its times are the same to the last digit: it is a copy"),
        (lambda: whole_record(provenance__hardware__cores=64), "it comes from the same kind of machine, by processor, "
         "accelerator and platform"),
        (lambda: elsewhere(scores=(40.3, 50.0, 60.0)), "its score differs by +0.10 points"),
        (lambda: elsewhere(scores=(39.7, 50.0, 60.0)), "its score differs by -0.10 points"),
        (lambda: elsewhere(failed="no luck"), "one of the two has failed"),
        (lambda: elsewhere(identity__data__sha256="0" * 64), "its identity differs"),
        (lambda: elsewhere(protocol__sampling="sampled"), "its protocol differs"),
        (lambda: elsewhere(seed=1), "it is another cell"),
        (lambda: elsewhere(provenance__config__train__lr=0.1), "it is another cell"),
    ],
)  # fmt: skip
def test_only_an_independent_run_of_the_same_cell_verifies(build: Callable[[], Record], why: str) -> None:
    record, other = whole_record(), build()
    assert why_not_reproduced(record, other) == why
    assert reproduced_cells([record, whole_record(seed=5)], [other]) == ({record.key} if not why else set())
    assert reproduced_cells([], [other]) == frozenset()


def test_one_verification_is_enough() -> None:
    record = whole_record()
    assert reproduced_cells([record], [whole_record(), elsewhere(scores=(1.0, 2.0, 3.0)), elsewhere()]) == {record.key}
    assert other_machine(record, elsewhere())
    assert not other_machine(record, record)


def test_a_record_from_a_file_raises_no_doubts(tmp_path: Path) -> None:
    """Through a file and back nothing is doubted that was not before."""
    dump_record(whole_record(), tmp_path / "x.json")
    assert doubts(load_record(tmp_path / "x.json"), NOW) == []


def test_another_return_scale_is_named() -> None:
    found = doubts(whole_record(protocol__return_scale=10.0), NOW)
    assert found == ["protocol.return_scale: 10.0, and 1000.0 in provenance.config"]


def test_a_record_of_an_older_release_is_verified_by_a_newer_one(tmp_path: Path) -> None:
    """A field that has been added since is not in it, and nothing is held against it."""
    now = whole_record(protocol__return_scale=1000.0, provenance__hardware__cpu="Another CPU")
    content = json.loads(canonical(whole_record()))
    assert content["protocol"].pop("return_scale") is None
    text = json.dumps(content, sort_keys=True, indent=1) + "\n"
    (tmp_path / "x.json").write_text(text)
    old = load_record(tmp_path / "x.json")
    assert canonical(old, as_read=True) == text != canonical(old)
    assert doubts(old, NOW) == []
    assert why_not_reproduced(old, now) == ""
    assert why_not_reproduced(whole_record(protocol__return_scale=1000.0), now) == ""
