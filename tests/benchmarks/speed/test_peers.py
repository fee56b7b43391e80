"""Peers equal our models, and a wrong one is refused."""

from __future__ import annotations

import pytest
from speed_settings import tiny

from backbench.agents.agent import Agent
from backbench.benchmarks.speed import peers
from backbench.benchmarks.speed.equality import Unequal
from backbench.benchmarks.speed.examine import Examiner
from backbench.benchmarks.speed.peer_layers import MambapyMixer

OF_TRANSFORMERS = {
    "mamba2": "Mamba2Mixer",
    "gated_deltanet": "Qwen3NextGatedDeltaNet",
    "rglru": "RecurrentGemma",
    "transformerpp": "LlamaAttention",
}


def test_peers_equal_ours_and_a_wrong_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny("transformer", "mamba", peers=True, options={"d_state": 4, "activation": "gelu"})
    here, _ = peers.peers(config)
    examiner = Examiner(config)
    assert {"DecisionTransformerModel", "mambapy"} == {one.name for one in here if one.name != "mamba-ssm"}
    for one in here:
        _, checks = examiner.check(one)
        assert any(f"{one.name} = " in check for check in checks)
    forward, loss = MambapyMixer.forward, peers.DecisionTransformer.loss
    monkeypatch.setattr(MambapyMixer, "forward", lambda self, x: 1.001 * forward(self, x))
    monkeypatch.setattr(peers.DecisionTransformer, "loss", lambda self, batch: 1.001 * loss(self, batch))
    for one in here:
        with pytest.raises(Unequal, match=r"off by \d"):
            examiner.check(one)


def test_layers_of_transformers_equal_ours_and_a_wrong_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(*OF_TRANSFORMERS, peers=True)
    here, missing = peers.peers(config)
    assert ({one.name for one in here}, missing) == (set(OF_TRANSFORMERS.values()), [])
    examiner = Examiner(config)
    for one in here:
        _, checks = examiner.check(one)
        assert any(f"{one.name} = {one.ours.name}" in check for check in checks if one.ours)
        policy = one.make(config, config.context)
        assert isinstance(policy, Agent)
        layer = type(policy.backbone.layers[0].mixer)  # type: ignore[index, union-attr]
        forward = layer.forward
        monkeypatch.setattr(layer, "forward", lambda self, x, forward=forward: 1.001 * forward(self, x))
        with pytest.raises(Unequal, match=r"off by \d"):
            examiner.check(one)


def test_a_missing_peer_is_listed_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    here, missing = peers.peers(tiny("mamba"))
    assert here == []
    assert {one.name: one.reason for one in missing}["mambapy"] == "not installed: pip install mambapy==1.2.0"
