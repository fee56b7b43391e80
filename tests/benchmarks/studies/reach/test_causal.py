"""The causal check finds the lag from which the past of another episode changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import reach_agents as made
import torch
from reach_agents import K

from backbench.agents.agent import Agent, Windows
from backbench.backbones import BACKBONES
from backbench.benchmarks.studies.reach.causal import causal
from backbench.errors import UserError


def late(windows: Windows, first: int) -> torch.Tensor:
    return windows.mask & (windows.timesteps >= first)


@pytest.mark.parametrize("discrete", [True, False])
@pytest.mark.parametrize("lag", [0, 1, 5])
def test_a_backbone_that_copies_a_past_token_needs_that_lag_and_no_more(lag: int, discrete: bool) -> None:
    windows, others = made.windows(discrete=discrete), made.windows(1, discrete=discrete)
    found = causal(made.agent(made.Delay, {"steps": lag}, discrete), windows, others, late(windows, lag))
    assert found.lags.tolist() == list(range(-1, K))
    assert (found.change[: lag + 1] == found.change[0]).all()
    assert (found.change[lag + 1 :] == 0).all()
    assert (found.loss[lag + 1 :] == 0).all()
    assert np.flatnonzero(found.effect).tolist() == [lag]
    assert found.effect[lag] == found.change[0] > 0.1
    assert found.queries == 3 * (K - lag)
    assert (found.flips is None) == (not discrete)
    if found.flips is not None:
        assert found.flips[lag] > 0.2
        assert (found.flips[lag + 1 :] == 0).all()


@pytest.mark.parametrize("name", ["identity", "mlp"])
def test_controls_without_memory_need_the_present_alone(name: str) -> None:
    found = causal(made.agent(name), made.windows(), made.windows(1))
    assert found.change[0] > 0.1
    assert (found.change[1:] == 0).all()


def test_convformer_needs_no_more_than_its_filters() -> None:
    found = causal(made.agent("convformer", layers=1), made.windows(), made.windows(1))
    assert (found.change[:3] > 0).all()  # the filter of the state token starts with the action two steps before
    assert (found.change[3:] < 1e-6).all()
    assert found.effect[2] > 1e-4


def test_glomas_local_branch_needs_no_more_than_its_window() -> None:
    agent = made.agent("gloma", {"window": 2}, layers=1)
    assert causal(agent, made.windows(), made.windows(1)).change[4] > 1e-4
    with torch.no_grad():
        agent.backbone.layers[0].mixer.global_branch.out_proj.weight.zero_()  # type: ignore[index, union-attr]
    assert (causal(agent, made.windows(), made.windows(1)).change[4:] < 1e-6).all()


def replaced(windows: Windows, others: Windows, row: int, first: int) -> Any:
    """One window, as the agent takes it, with the contents before step ``first`` of the other."""
    parts = []
    for name in ("returns_to_go", "states", "actions"):
        part = getattr(windows, name)[row : row + 1].clone()
        part[:, :first] = getattr(others, name)[row : row + 1, :first]
        parts.append(part)
    return *parts, windows.timesteps[row : row + 1]


@pytest.mark.parametrize("discrete", [True, False])
def test_it_is_the_mean_over_single_replacements(discrete: bool) -> None:
    agent = made.agent("gru", discrete=discrete).eval()
    windows, others = made.padded(made.windows(discrete=discrete), 0, 5), made.windows(1, discrete=discrete)
    others = made.padded(others, 2, 6)
    change, flips, loss = np.zeros((3, K + 1))
    queries = [(0, t) for t in range(5)] + [(1, t) for t in range(K)] + [(2, t) for t in range(6)]
    with torch.no_grad():
        for row, t in queries:
            before = agent(*replaced(windows, others, row, 0))[0, t]
            for kept in range(K + 1):
                after = agent(*replaced(windows, others, row, max(0, t + 1 - kept)))[0, t]
                recorded = windows.actions[row, t]
                if discrete:
                    change[kept] += float((before.softmax(0) - after.softmax(0)).abs().sum() / 2)
                    flips[kept] += int(before.argmax() != after.argmax())
                    loss[kept] += float(before.log_softmax(0)[recorded] - after.log_softmax(0)[recorded])
                else:
                    change[kept] += float((before - after).square().mean().sqrt())
                    loss[kept] += float((after - recorded).square().mean() - (before - recorded).square().mean())
    found = causal(agent, windows, others)
    assert found.queries == len(queries)
    assert found.change == pytest.approx(change / len(queries), rel=1e-4, abs=1e-6)
    assert found.loss == pytest.approx(loss / len(queries), rel=1e-3, abs=1e-6)
    if discrete:
        assert found.flips == pytest.approx(flips / len(queries))


def test_some_lags_have_the_values_that_they_have_among_all() -> None:
    agent, windows, others = made.agent("mamba"), made.windows(), made.windows(1)
    every, some = causal(agent, windows, others), causal(agent, windows, others, lags=[5, 2, 5])
    assert some.lags.tolist() == [-1, 2, 5]
    for name in ("change", "flips", "loss"):
        assert getattr(some, name) == pytest.approx(getattr(every, name)[[0, 3, 6]])
    assert some.effect == pytest.approx([every.effect[:3].sum(), every.effect[3:6].sum()])


def test_the_same_episode_again_changes_nothing() -> None:
    found = causal(made.agent("transformer"), made.windows(), made.windows())
    assert not found.change.any()


def test_timesteps_are_not_replaced() -> None:
    windows = made.windows()
    later = replace(windows, timesteps=(windows.timesteps + 3).clamp(max=K - 1))
    assert not causal(made.agent("gru"), windows, later).change.any()


@pytest.mark.parametrize("name", BACKBONES.names())
def test_each_backbone_can_be_checked(name: str) -> None:
    agent = made.agent(name, tokens="rs").train()
    found = causal(agent, made.windows(), made.windows(1))
    assert ((found.change >= 0) & (found.change <= 1)).all()
    assert found.change[-1] == 0
    assert agent.training


def nan_agent() -> Agent:
    agent = made.agent("gru")
    with torch.no_grad():
        agent.head.project.weight.fill_(float("nan"))  # type: ignore[operator]
    return agent


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"lags": [3, 8]}, "lags 3 to 8: windows of 8 steps have lags 0 to 7; give those, or longer windows"),
        ({"lags": [-1]}, "lags -1 to -1: windows of 8 steps have lags 0 to 7"),
        ({"lags": []}, "no lags: windows of 8 steps have lags 0 to 7"),
        ({"others": made.windows(steps=5)}, r"windows of other episodes: states and actions \[\(3, 5, 5\), \(3, 5\)\]"),
        ({"at": torch.zeros(3, K)}, "none of them is in the windows"),
        ({"agent": nan_agent()}, "actions are not finite"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        causal(**{"agent": made.agent("gru"), "windows": made.windows(), "others": made.windows(1), **keywords})
    assert "\n" not in str(error.value)
