"""Groups of backbones."""

from __future__ import annotations

from backbench.backbones import BACKBONES
from backbench.leaderboard.board.mechanisms import MEANING, MECHANISMS, mechanism


def test_every_built_in_backbone_has_one_mechanism() -> None:
    grouped = [name for names in MECHANISMS.values() for name in names]
    assert sorted(grouped) == sorted(name for name in BACKBONES.names() if BACKBONES.origin(name) == "built-in")
    assert set(MECHANISMS) < set(MEANING)


def test_hybrids_and_plug_ins_have_groups_of_their_own() -> None:
    assert mechanism("mamba") == "diagonal recurrence"
    assert mechanism("mamba+mamba+transformer") == "hybrid"
    assert mechanism("my_package.mixers:Mine") == "other"
