"""Digests and keys of cells never change; the words of a variant are read in one place."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
from whole_record import REAL, REAL_KEY, put

from backbench.leaderboard.record.identity import (
    ADDED,
    MATCH,
    WIDTH,
    cell_digest,
    cell_key,
    config_digest,
    matched_to,
    overridden,
    with_match,
    without,
)


def test_digests_and_keys_are_stable() -> None:
    # sha256 of the bytes {"a":[1,2],"b":null}
    assert cell_digest({"b": None, "a": (1, 2)}) == cell_digest({"a": [1, 2], "b": None}) == "f25109c4"
    assert cell_digest({"a": 1}) != cell_digest({"a": 1.0})
    with pytest.raises(ValueError):
        cell_digest({"a": math.nan})
    assert cell_key("own.module:Thing", "t", "embedded", "quick", 3, "0" * 8) == (
        "own-module-Thing.t.embedded.quick.s3.00000000"
    )


def test_the_digest_is_that_of_a_record_made_before() -> None:
    assert REAL_KEY.endswith(f".{config_digest(REAL)}")


@pytest.mark.parametrize(
    ("name", "value", "same"),
    [
        ("train__log_every", 1, True),
        ("train__checkpoint_every", 7, True),
        ("variant", "train.lr=0.0015", True),
        ("variant", "match=params:mamba model.d_model=64", False),
        ("train__lr", 0.001, False),
        ("seed", 1, False),
        ("task__env_id", "HalfCheetah-v4", False),
    ],
)
def test_only_settings_that_change_a_result_change_the_digest(name: str, value: Any, same: bool) -> None:
    changed = copy.deepcopy(REAL)
    put(changed, name, value)
    assert (config_digest(changed) == config_digest(REAL)) is same
    assert changed["variant"] == (value if name == "variant" else "")


def test_a_setting_added_later_keeps_the_keys_of_cells_that_do_not_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ADDED, "model.added", 1)
    for value, same in ((1, True), (2, False), (1.0, False), (True, False)):
        later = copy.deepcopy(REAL)
        later["model"]["added"] = value
        assert (config_digest(later) == config_digest(REAL)) is same


def test_the_width_of_a_match_is_in_the_digest_and_its_row_only_once() -> None:
    first, second = ({**REAL, "variant": f"{word}match=params:gloma"} for word in ("", "train.lr=0.0015 "))
    assert config_digest(first) == config_digest(second) != config_digest({**REAL, "variant": "match=params:mamba"})


def test_words_of_a_variant_are_read() -> None:
    variant = "train.lr=0.01 match=params:my.module:Net model.d_model=96"
    assert overridden(variant) == {"train.lr", "match", "model.d_model"}
    assert overridden("") == set()
    assert matched_to(variant) == "my.module:Net"
    assert matched_to("train.lr=0.01 match=params") is None
    assert without(variant, MATCH, WIDTH) == "train.lr=0.01"
    assert without(variant, MATCH) == "train.lr=0.01 model.d_model=96"


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("", "match=params:mamba model.d_model=96"),
        ("train.lr=0.01", "train.lr=0.01 match=params:mamba model.d_model=96"),
        ("model.d_model=64", "match=params:mamba model.d_model=96"),
        ("model.d_model=64 train.lr=0.01", "train.lr=0.01 match=params:mamba model.d_model=96"),
    ],
)
def test_a_matched_width_replaces_the_width_of_the_variant(variant: str, expected: str) -> None:
    assert with_match(variant, "mamba", 96) == expected
