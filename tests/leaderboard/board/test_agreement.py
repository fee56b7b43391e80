"""Verdicts on a row of two machines, simulated: consistent ones, a shifted one, a copy, the same seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from record_factory import make_record

from backbench.leaderboard.board.agreement import MARGIN, agreement, verdict
from backbench.leaderboard.board.board import Row, build_board
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.record.suites import SUITES
from backbench.leaderboard.trust.together import impossible_together

TASKS = SUITES["d4rl"]
OTHER: dict[str, Any] = {
    "vendor": "GenuineIntel", "family": "6", "model": "85", "stepping": "7", "instructions": ["avx2", "avx512f"],
    "blas": "openblas 0.3 SkylakeX", "torch": "AVX512, MKL", "libc": "glibc 2.36",
}  # fmt: skip


def machine(seeds: range, shift: float = 0.0, spread: float = 2.5, **changes: Any) -> list[Record]:
    """All tasks of the suite with these seeds. A seed's mean over tasks spreads with ``spread``."""
    records = []
    for seed in seeds:
        rng = np.random.default_rng([7, seed])
        own = spread * rng.standard_normal() + shift
        for task in TASKS:
            score = 50 + own + rng.standard_normal()
            curve = [(0, 1.0), (1000, float(rng.uniform(0.1, 0.3)))]
            spent = {"cost__train_seconds": float(rng.uniform(50, 70)), "curve__loss": curve}
            made = make_record("gloma", task, seed, scores=(score - 1, score, score + 1), **spent, **changes)
            records.append(made)
    return records


def elsewhere(seeds: range, shift: float = 0.0, **more: Any) -> list[Record]:
    """The same on another kind of machine. Its name is the same: "AMD EPYC" says nothing."""
    changes = {"provenance__hardware__processor": OTHER, "provenance__started": "2026-03-31T12:00:00Z"}
    return machine(seeds, shift, **changes, **more)


def row(records: list[Record]) -> Row:
    (section,) = build_board(records).sections
    (found,) = section.rows
    return found


def test_other_seeds_of_a_second_machine_verify_a_row_and_are_pooled() -> None:
    found = row(machine(range(10)) + elsewhere(range(10, 20)))
    assert (found.machines, len(found.seeds)) == (2, 20)
    assert found.agreement is not None
    assert found.agreement.seeds == (10, 10)
    assert found.trust == "verified"
    assert -MARGIN < found.agreement.low < found.agreement.difference < found.agreement.high < MARGIN
    (section,) = build_board(machine(range(10)) + elsewhere(range(10, 20))).sections
    assert any(note.startswith("gloma: verified: difference") for note in section.notes)


def test_costs_are_those_of_the_machine_with_most_cells() -> None:
    fast, slow = ({"cost__decision__p50_ms": ms} for ms in (1.0, 2.0))
    found = row(machine(range(4), **fast) + elsewhere(range(10, 13), **slow))
    assert (found.cost["decision_p50_ms"], found.spread["decision_p50_ms"]) == (1.0, (1.0, 1.0))


def test_few_seeds_are_consistent_and_not_verified() -> None:
    found = row(machine(range(3)) + elsewhere(range(10, 13)))
    assert found.trust == "consistent"
    assert found.agreement is not None
    assert found.agreement.high - found.agreement.low > 2 * MARGIN


def test_a_machine_that_is_shifted_by_six_points_differs() -> None:
    assert row(machine(range(10)) + elsewhere(range(10, 20), shift=6.0)).trust == "different"


def test_the_same_kind_of_machine_is_no_second_machine() -> None:
    found = row(machine(range(10)) + machine(range(10, 20)))
    assert (found.machines, found.trust, found.agreement) == (1, "self-reported", None)
    assert len(found.seeds) == 20


def test_the_same_seeds_are_a_reproduction_and_no_sample() -> None:
    """One record counts for a seed, so the second machine adds none and the board's number stays."""
    first = machine(range(5))
    found = row(first + elsewhere(range(5), shift=6.0))
    assert (found.machines, found.trust, len(found.seeds)) == (1, "self-reported", 5)
    assert found.aggregates == row(first).aggregates


def test_a_copy_under_other_seeds_is_refused() -> None:
    first = machine(range(3))
    copied = []
    for record in first:
        content = record.model_dump(mode="json")
        content["identity"]["seed"] += 10
        content["key"] = content["key"].replace(f".s{record.identity.seed}.", f".s{record.identity.seed + 10}.")
        content["provenance"] |= {
            "weights_sha256": f"{record.identity.seed + 5}" * 64,
            "started": "2026-03-31T12:00:00Z",
        }
        content["provenance"]["hardware"]["processor"] = OTHER
        copied.append(Record.model_validate(content))
    said = [line for line in impossible_together(first + copied) if "it is a copy" in line]
    assert len(said) == 2 * len(copied), "its losses and its times give it away"
    retold = [Record.model_validate({**one.model_dump(mode="json"), "curve": other.curve.model_dump(mode="json")})
              for one, other in zip(copied, machine(range(20, 23)), strict=True)]  # fmt: skip
    assert sum("has the times of" in line for line in impossible_together(first + retold)) == len(copied)
    assert not [line for line in impossible_together(first + elsewhere(range(10, 13))) if "copy" in line]


def test_a_seed_that_ran_on_two_machines_is_on_neither_side() -> None:
    mixed = machine(range(6, 7))[:5] + elsewhere(range(6, 7))[5:]
    found = row(machine(range(5)) + mixed + elsewhere(range(10, 15)))
    assert found.agreement is not None
    assert found.agreement.seeds == (5, 5)
    assert len(found.seeds) == 11


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-2.9, 2.9, "verified"), (0.5, 2.5, "verified"), (-3.0, 2.0, "consistent"), (-4.0, 4.0, "consistent"),
        (0.0, 9.0, "consistent"), (0.1, 3.1, "different"), (-9.0, -0.1, "different"),
    ],
)  # fmt: skip
def test_verdicts(low: float, high: float, said: str) -> None:
    assert verdict(low, high) == said


def test_one_seed_gives_no_verdict() -> None:
    assert agreement([[1.0, 2.0]], [[1.0, 2.0], [2.0, 3.0]]) is None
    assert row(machine(range(3)) + elsewhere(range(10, 11))).trust == "self-reported"
