"""Recall density is where a backbone looks by its architecture, and its gradients are those of finite differences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import reach_agents as made
import torch
from reach_agents import K
from torch import Tensor

from backbench.agents.agent import Agent, Windows
from backbench.backbones import BACKBONES
from backbench.benchmarks.studies.reach.density import Density, attention_distances, density
from backbench.benchmarks.studies.reach.layers import embedded, evaluating, mixers, policy
from backbench.errors import UserError


def last() -> Tensor:
    """The last step of each window."""
    return torch.arange(K).repeat(3, 1) == K - 1


@pytest.mark.parametrize("discrete", [True, False])
@pytest.mark.parametrize("lag", [0, 1, 5])
def test_a_backbone_that_copies_a_past_token_has_its_density_at_that_lag(lag: int, discrete: bool) -> None:
    agent, windows = made.agent(made.Delay, {"steps": lag}, discrete), made.windows(discrete=discrete)
    found = density(agent, windows)
    assert found.share.tolist() == [float(k == lag) for k in range(K)]
    assert (found.holds(0.5), found.holds(0.9), found.holds(1)) == (lag, lag, lag)
    assert (found.queries, found.silent) == (3 * (K - lag), 3 * lag)
    assert density(agent, windows, others=made.windows(1, discrete=discrete)).share.tolist() == found.share.tolist()


@pytest.mark.parametrize("name", ["identity", "mlp"])
def test_controls_without_memory_have_all_density_in_the_present(name: str) -> None:
    agent = made.agent(name)
    for others in (None, made.windows(1)):
        assert density(agent, made.windows(), others=others).share.tolist() == [1.0] + [0.0] * (K - 1)


@pytest.mark.parametrize(("layers", "reach"), [(1, 1), (2, 3)])
def test_convformer_has_no_density_beyond_its_filters(layers: int, reach: int) -> None:
    """A filter of six tokens at a state token, the second of a step: it starts with the action two steps before."""
    share = density(made.agent("convformer", layers=layers), made.windows()).share
    assert (share[: reach + 1] > 0).all()
    assert (share[reach + 2 :] == 0).all()


def test_glomas_local_branch_has_no_density_beyond_its_window() -> None:
    agent = made.agent("gloma", {"window": 2}, layers=1)
    assert (density(agent, made.windows()).share > 0).all()
    with torch.no_grad():
        mixers(agent)[0].global_branch.out_proj.weight.zero_()  # type: ignore[union-attr, operator]
    share = density(agent, made.windows()).share
    assert (share[:2] > 0).all()
    assert (share[3:] == 0).all()  # the window of six tokens starts within the step two before


def test_equal_parts_of_all_tokens_give_equal_shares() -> None:
    share = density(made.agent(made.Everything, stir=0, tokens="s"), made.windows(), last()).share
    assert share == pytest.approx(np.full(K, 1 / K), rel=1e-5)


@pytest.mark.parametrize("name", ["gru", "mamba", "transformerpp"])
def test_gradients_agree_with_finite_differences(name: str) -> None:
    agent, windows = made.agent(name, discrete=False).double(), made.doubled(made.windows(batch=1, discrete=False))
    query, step = K - 2, 1e-5
    at = torch.zeros_like(windows.mask)
    at[0, query] = True
    sizes = np.zeros(K)
    with evaluating(agent), torch.no_grad():
        tokens = embedded(agent, windows)
        for token in range(tokens.shape[1]):
            rows = []
            for channel in range(tokens.shape[2]):
                push = torch.zeros_like(tokens)
                push[0, token, channel] = step
                rows.append((policy(agent, tokens + push) - policy(agent, tokens - push))[0, query] / (2 * step))
            lag = query - token // 3
            sizes[lag] += float(torch.stack(rows).norm()) if lag >= 0 else 0
    found = density(agent, windows, at)
    assert found.queries == 1
    assert found.share == pytest.approx(sizes / sizes.sum(), rel=1e-6, abs=1e-12)
    assert found.size == pytest.approx(sizes.sum(), rel=1e-6)


def test_the_line_between_two_windows_explains_the_difference_of_their_actions() -> None:
    """Complete for a backbone that copies one token: the size is that of the difference. The head's tanh is curved."""
    agent = made.agent(made.Delay, discrete=False, stir=1.0)
    windows, others = (made.padded(made.windows(seed, discrete=False), 0, 6 - seed) for seed in (0, 1))
    with evaluating(agent), torch.no_grad():
        own, theirs = (policy(agent, embedded(agent, each)) for each in (windows, others))
    found = density(agent, windows, others=others)
    assert found.queries == 5 + 2 * K  # of the first row, the steps that both have
    real = windows.mask & others.mask
    assert found.size == pytest.approx(float((own - theirs).norm(dim=-1)[real].mean()), rel=2e-3)
    assert float((own - theirs).abs().max()) > 1


def test_random_projections_estimate_the_jacobian() -> None:
    agent, windows = made.agent("gru", discrete=False), made.windows(discrete=False)
    exact, estimated = density(agent, windows, last()), density(agent, windows, last(), projections=200)
    assert estimated.share == pytest.approx(exact.share, abs=0.02)
    assert estimated.size == pytest.approx(exact.size, rel=0.05)
    assert not np.array_equal(estimated.share, exact.share)
    again, other = (density(agent, windows, last(), projections=2, seed=seed).share for seed in (0, 1))
    assert np.array_equal(density(agent, windows, last(), projections=2).share, again)
    assert not np.array_equal(again, other)


def test_a_shift_of_all_logits_is_no_change_of_the_action() -> None:
    agent, windows = made.agent("gru"), made.windows()
    before = density(agent, windows).share
    with torch.no_grad():
        agent.head.project.weight += 10 * torch.randn(16)  # type: ignore[operator]
    assert density(agent, windows).share == pytest.approx(before, rel=1e-3, abs=1e-4)


def test_tokens_that_are_equal_in_both_windows_count_nothing_on_the_line_between_them() -> None:
    windows, changed = made.windows(), made.windows(1)
    states = windows.states.clone()
    states[:, 2] = changed.states[:, 2]
    others = replace(windows, states=states)
    found = density(made.agent("gru"), windows, torch.isin(windows.timesteps, torch.tensor([1, 2, 7])), others)
    assert (found.queries, found.silent) == (6, 3)
    expected = np.zeros(K)
    expected[[0, 5]] = 0.5  # the queries at steps 2 and 7 have all in step 2
    assert found.share == pytest.approx(expected)


def test_a_saturated_gate_hides_a_token_from_the_gradient_but_not_from_the_line() -> None:
    agent, windows, others = made.agent(made.Hard, {"steps": 2}), made.windows(), made.windows(1)
    gradient, line = density(agent, windows), density(agent, windows, others=others)
    assert gradient.silent > line.silent
    assert line.share[2] == 1


def reordered(windows: Windows, rows: list[int]) -> Windows:
    return Windows(*(getattr(windows, name)[rows] for name in Windows.__dataclass_fields__))


def test_windows_and_their_padding_do_not_disturb_each_other() -> None:
    agent, windows = made.agent("gru"), made.padded(made.windows(), 1, 3)
    each = [density(agent, reordered(windows, [row])) for row in range(3)]
    both = density(agent, windows)
    assert [one.queries for one in each] == [8, 3, 8]
    assert both.queries == 19
    assert both.share == pytest.approx(sum(one.share * one.queries for one in each) / 19, rel=1e-4)


def test_the_lags_that_hold_a_part_are_the_smallest_that_do() -> None:
    found = Density(np.array([0.1, 0.4, 0.4, 0.1]), 1, 0, 1.0)
    assert [found.holds(part) for part in (0.05, 0.1, 0.5, 0.51, 0.9, 0.91, 1)] == [0, 0, 1, 2, 2, 3, 3]
    for part in (0, 1.1, float("nan")):
        with pytest.raises(UserError, match="give a number above 0, up to 1"):
            found.holds(part)


@pytest.mark.parametrize("name", BACKBONES.names())
def test_each_backbone_has_a_density(name: str) -> None:
    agent = made.agent(name, tokens="sa").train()
    for others in (None, made.windows(1)):
        found = density(agent, made.windows(), last(), others)
        assert found.share.sum() == pytest.approx(1)
        assert found.queries == 3
    assert agent.training
    assert all(parameter.grad is None for parameter in agent.parameters())


def nan_agent() -> Agent:
    agent = made.agent("gru")
    with torch.no_grad():
        agent.head.project.weight.fill_(float("nan"))  # type: ignore[operator]
    return agent


@pytest.mark.parametrize(
    ("agent", "keywords", "message"),
    [
        (lambda: made.agent("gru"), {"projections": -1}, "projections=-1; give 0"),
        (lambda: made.agent("gru"), {"others": made.windows(steps=4)}, "windows of other episodes: states and actions"),
        (lambda: made.agent("gru"), {"at": last()[:, :2], "others": made.windows(1)}, "steps to measure at"),
        (lambda: made.agent("gru"), {"at": torch.zeros(3, K)}, "none of them is in the windows"),
        (lambda: made.agent(made.Delay, {"steps": K}), {}, "no token changes any action at these steps"),
        (nan_agent, {}, "gradients of actions are not finite"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(agent: Any, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        density(agent(), made.windows(), **keywords)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "heads"), [("transformer", 1), ("transformerpp", 4)])
def test_uniform_attention_is_at_the_mean_distance(name: str, heads: int) -> None:
    agent, windows = made.agent(name, layers=2), made.padded(made.windows(), 0, 5)
    with torch.no_grad():
        for mixer in mixers(agent):
            mixer.qkv_proj.weight[:16] = 0  # type: ignore[operator, index]
            if mixer.qkv_proj.bias is not None:  # type: ignore[union-attr]
                mixer.qkv_proj.bias[:16] = 0  # type: ignore[operator, union-attr, index]
    found = attention_distances(agent, windows)
    assert [(one.layer, one.head) for one in found] == [(layer, head) for layer in range(2) for head in range(heads)]
    of_step = [t - np.mean([token // 3 for token in range(3 * t + 2)]) for t in range(K)]
    expected = (2 * sum(of_step) + sum(of_step[:5])) / (2 * K + 5)
    assert [one.steps for one in found] == pytest.approx([expected] * 2 * heads, rel=1e-5)


def test_attention_with_a_window_does_not_look_further() -> None:
    near, far = (
        attention_distances(made.agent("transformer", {"window": window}, layers=1), made.windows())[0].steps
        for window in (1, 0)
    )
    assert 0 < near < 1 < far


def test_attention_weights_are_those_of_the_output() -> None:
    mixer: Any = mixers(made.agent("transformerpp", layers=1))[0].eval()
    x = torch.randn(2, 9, 16)
    with torch.no_grad():
        weights = mixer.attended(x, torch.eye(9))
        values = mixer._repeated(mixer._heads(mixer.project(x).split(mixer.sizes, -1)[2]))
        torch.testing.assert_close(mixer.out_proj((weights @ values).transpose(1, 2).flatten(2)), mixer(x))


def test_backbones_without_attention_have_no_distance() -> None:
    agent = made.agent("mamba+transformer")
    assert [one.layer for one in attention_distances(agent, made.windows())] == [1]
    assert attention_distances(made.agent("gru"), made.windows()) == []
    assert attention_distances(made.agent(made.Delay), made.windows()) == []
