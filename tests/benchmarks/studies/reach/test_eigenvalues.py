"""Eigenvalues have their closed forms at the start, and time constants are those of the states that they describe."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import reach_agents as made
import torch
from torch import Tensor

from backbench.backbones import BACKBONES
from backbench.benchmarks.studies.reach.eigenvalues import (
    Spectrum,
    eigenvalues,
    log_decays,
    spectra,
    time_constants,
    without,
)
from backbench.benchmarks.studies.reach.layers import inputs, mixers
from backbench.errors import UserError


def start(name: str, **options: Any) -> list[Spectrum]:
    return eigenvalues(made.agent(name, options, stir=0))


def test_mambas_eigenvalues_start_as_s4d_real() -> None:
    first, second = start("mamba", d_state=5)
    assert (first.layer, second.layer, first.branch, first.domain) == (0, 1, "", "continuous")
    assert first.values.reshape(-1, 5) == pytest.approx(np.tile(-np.arange(1.0, 6), (32, 1)))


def test_glomas_branches_are_told_apart() -> None:
    found = start("gloma", d_state=3, local_d_state=2)
    assert [(one.layer, one.branch) for one in found] == [(0, "global"), (0, "local"), (1, "global"), (1, "local")]
    assert found[0].values.reshape(-1, 3)[0] == pytest.approx([-1, -2, -3])
    assert found[1].values.reshape(-1, 2)[0] == pytest.approx([-1, -2])
    assert [one.branch for one in start("gloma", share_weights=True, window=3)] == ["shared", "shared"]


@pytest.mark.parametrize(("name", "least"), [("mamba2", 1.0), ("gated_deltanet", 0.01)])
def test_scalar_decays_have_one_eigenvalue_a_head(name: str, least: float) -> None:
    for one in start(name):
        assert one.values.shape == (4,)
        assert ((one.values.real >= -16) & (one.values.real <= -least) & (one.values.imag == 0)).all()


def test_lrus_eigenvalues_start_on_the_ring() -> None:
    (one, _) = start("lru", r_min=0.9, r_max=0.99, max_phase=1.0)
    assert one.domain == "discrete"
    assert one.values.shape == (16,)
    assert ((np.abs(one.values) > 0.9) & (np.abs(one.values) < 0.99)).all()
    assert ((np.angle(one.values) > 0) & (np.angle(one.values) < 1)).all()


def test_s5s_eigenvalues_start_as_those_of_hippo() -> None:
    n = np.sqrt(np.arange(16) + 0.5)
    lower = np.tril(np.outer(n, n), -1)
    pairs = np.linalg.eigvals(lower.T - lower - 0.5 * np.eye(16))
    (one, _) = start("s5")
    assert one.domain == "continuous"
    assert one.values.real == pytest.approx(np.full(8, -0.5))
    assert np.sort(np.abs(one.values.imag)) == pytest.approx(np.sort(np.abs(pairs.imag))[::2], rel=1e-5)


def test_retnets_decays_are_those_of_its_heads() -> None:
    assert start("retnet")[0].values == pytest.approx([1 - 2.0**-p for p in (5, 6, 7, 8)])
    assert start("retnet")[0].domain == "discrete"


def test_rglrus_strongest_decay_starts_between_09_and_0999() -> None:
    for one in start("rglru"):
        assert ((one.values.real > 0.9) & (one.values.real < 0.999)).all()


def test_eigenvalues_follow_training() -> None:
    agent = made.agent("mamba", stir=0)
    with torch.no_grad():
        mixers(agent)[1].block.A_log.fill_(math.log(0.25))  # type: ignore[union-attr, operator]
    assert eigenvalues(agent)[0].values.real.min() == pytest.approx(-16)
    assert eigenvalues(agent)[1].values == pytest.approx(np.full(32 * 16, -0.25))


def test_a_hybrid_is_read_layer_by_layer() -> None:
    agent = made.agent("transformer+mamba+gru", layers=3)
    assert [(one.layer, one.branch) for one in eigenvalues(agent)] == [(1, "")]
    assert {one.layer for one in time_constants(agent, made.windows())} == {1}
    assert [line.split(":")[0] for line in without(agent, "eigenvalues")] == ["Transformer", "GRU"]


@pytest.mark.parametrize("name", BACKBONES.names())
def test_each_backbone_has_an_answer_or_a_reason(name: str) -> None:
    agent = made.agent(name)
    assert (eigenvalues(agent) == []) == bool(without(agent, "eigenvalues"))
    assert (time_constants(agent, made.windows()) == []) == bool(without(agent, "time constants"))
    for line in (*without(agent, "eigenvalues"), *without(agent, "time constants")):
        assert "\n" not in line
        assert "does not know" not in line


def test_a_complete_backbone_of_others_has_a_reason() -> None:
    agent = made.agent(made.Delay)
    assert eigenvalues(agent) == time_constants(agent, made.windows()) == []
    assert without(agent, "eigenvalues") == ["Delay: a complete backbone, whose layers are not known"]


FORMS: list[tuple[str, dict[str, Any]]] = [
    ("mamba", {}), ("mamba", {"eigenvalues": "negative"}), ("mamba2", {}), ("gla", {}), ("hgrn2", {}), ("retnet", {}),
    ("lru", {}), ("s5", {}), ("mingru", {}), ("rglru", {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), FORMS, ids=str)
def test_a_decay_is_what_a_token_leaves_of_a_state(name: str, options: dict[str, Any]) -> None:
    """Both runs get the same token, and differ in the state before it."""
    mixer: Any = mixers(made.agent(name, options))[0].eval().double()
    x = torch.randn(2, 4, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        (log_decay,) = log_decays(mixer, x).values()

        def after(push: float) -> Tensor:
            _, state = mixer.extend(x[:, :3], mixer.initial_state(2))
            taken = _memory(name, state)
            taken += push
            return _memory(name, mixer.extend(x[:, 3:], state)[1])

        left = after(1.0) - after(0.0)
    if name in ("lru", "s5"):
        left = torch.linalg.vector_norm(left, dim=-1) / 2**0.5
    expected = log_decay[:, 3].exp()
    expected = expected.transpose(1, 2) if name == "mamba" else expected
    expected = expected.view(*expected.shape, *[1] * (left.dim() - expected.dim())).expand(left.shape)
    torch.testing.assert_close(left.abs(), expected, rtol=1e-5, atol=1e-9)


def _memory(name: str, state: Any) -> Tensor:
    if name in ("lru", "s5", "mingru", "gla", "hgrn2"):
        return state  # type: ignore[no-any-return]
    return state[0] if name == "retnet" else state[1]  # type: ignore[no-any-return]


def test_mambas_time_constants_are_in_environment_steps() -> None:
    agent = made.agent("mamba", {"d_state": 1}, layers=1)
    block: Any = mixers(agent)[0].block  # type: ignore[union-attr]
    with torch.no_grad():
        block.A_log.fill_(math.log(0.5))
        block.dt_proj.weight.zero_()
        block.dt_proj.bias.fill_(math.log(math.expm1(0.2)))  # softplus gives 0.2
    found = time_constants(agent, made.windows(), quantiles=(0.1, 0.9))
    assert [one.token for one in found] == ["return", "state", "action"]
    for one in found:  # exp(-0.5 * 0.2) a token is 1/e after 10 tokens, which are 10/3 steps
        assert one.steps == pytest.approx([10 / 3, 10 / 3])
    alone = made.agent("mamba", {"d_state": 1}, layers=1, tokens="s")
    alone.backbone.load_state_dict(agent.backbone.state_dict())
    (one,) = time_constants(alone, made.windows(), quantiles=(0.5,))
    assert one.steps == pytest.approx([10])


def test_retnets_time_constants_are_those_of_its_decays() -> None:
    found = time_constants(made.agent("retnet"), made.windows(), quantiles=(0.1, 1.0))
    assert found[0].steps == pytest.approx([-1 / math.log(1 - 2.0**-p) / 3 for p in (5, 8)])


def test_a_token_kind_that_opens_the_gate_has_shorter_time_constants() -> None:
    agent = made.agent("mingru", layers=1, stir=0)
    mixer: Any = mixers(agent)[0]
    (x,) = inputs(agent, made.windows())
    away = (x[:, 2::3] - x[:, 1::3]).mean((0, 1))  # towards actions
    with torch.no_grad():
        mixer.in_proj.weight[mixer.channels :] = 5 * away / away.norm()
    of_kind = {one.token: one.steps[2] for one in time_constants(agent, made.windows())}
    assert of_kind["action"] < of_kind["state"]


def test_padding_and_other_steps_do_not_count() -> None:
    agent = made.agent("gla")
    short = made.padded(made.windows(), row=0, steps=3)
    changed = made.windows(seed=9)
    changed.states[0, :3], changed.returns_to_go[0, :3], changed.actions[0, :3] = (
        short.states[0, :3], short.returns_to_go[0, :3], short.actions[0, :3],
    )  # fmt: skip
    at = torch.zeros_like(short.mask)
    at[0] = True
    one, two = (time_constants(agent, made.padded(each, 0, 3), at) for each in (short, changed))
    for first, second in zip(one, two, strict=True):
        assert first.steps == pytest.approx(second.steps)
    assert one[0].steps != pytest.approx(time_constants(agent, made.windows())[0].steps, rel=1e-3)


def test_a_state_that_never_decays_lasts_for_ever() -> None:
    agent = made.agent("lru", stir=0)
    with torch.no_grad():
        mixers(agent)[0].nu_log.fill_(-torch.inf)  # type: ignore[union-attr, operator]
    assert np.isposinf(time_constants(agent, made.windows())[0].steps).all()


def test_glomas_blocks_have_the_decays_of_their_own_tokens() -> None:
    agent = made.agent("gloma", {"local": "blocks", "window": 3}, layers=1)
    mixer: Any = mixers(agent)[0].eval()
    x = torch.randn(2, 22, 16)
    with torch.no_grad():
        local = log_decays(mixer, x)["local"]
        assert local.shape[:2] == (2, 22)
        torch.testing.assert_close(local[:, 9:18], mixer.local_branch.log_decays(x[:, 9:18]))


def test_measuring_leaves_the_agent_as_it_was() -> None:
    agent = made.agent("mamba2").train()
    before = {name: value.clone() for name, value in agent.state_dict().items()}
    time_constants(agent, made.windows())
    assert agent.training
    assert all("recur" not in vars(mixer) and not mixer._forward_pre_hooks for mixer in mixers(agent))
    assert all(torch.equal(value, before[name]) for name, value in agent.state_dict().items())
    assert spectra(mixers(agent)[0])


def test_steps_that_are_nowhere_are_refused_in_one_line() -> None:
    made_windows = made.windows()
    with pytest.raises(UserError, match="none of them is in the windows; choose other steps"):
        time_constants(made.agent("mamba"), made_windows, torch.zeros_like(made_windows.mask))
    with pytest.raises(UserError, match=r"steps to measure at: \(3, 2\); the windows are \(3, 8\)"):
        time_constants(made.agent("mamba"), made_windows, made_windows.mask[:, :2])
