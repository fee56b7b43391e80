"""Preset ``paper`` against the originals: Decision Transformer's code for Gym and for Atari."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planning import GYM_ONLY, cells
from torch import Tensor, nn

from backbench.agents.agent import Agent
from backbench.agents.build import ModelSettings, Spaces, build_agent
from backbench.agents.heads import ActionSpace
from backbench.benchmarks.data import store
from backbench.benchmarks.data.trajectories import Trajectories
from backbench.benchmarks.data.windows import SAMPLERS
from backbench.benchmarks.plan.assemble import make_agent
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run.cell import check_data
from backbench.benchmarks.run.train import learning_rate, make_optimizer
from backbench.benchmarks.speed.peers import decision_transformer_weights
from backbench.errors import UserError

HOPPER = Spaces((11,), ActionSpace(3), max_timesteps=1000, return_scale=1000.0)
BREAKOUT = Spaces((4, 84, 84), ActionSpace(4, discrete=True), max_timesteps=2719, return_scale=1.0)


def gym_cell(**changes: Any) -> Cell:
    (cell,) = cells(["transformer"], "d4rl", "paper", [0], ["hopper-medium"])
    return replace(cell, **changes)


def theirs_for(cell: Cell, timesteps: int, activation: str = "relu") -> Any:
    """transformers' port, freshly built, with the shape of the cell's agent on hopper."""
    package = importlib.import_module("transformers")
    package.logging.set_verbosity_error()
    m = cell.model
    settings = package.DecisionTransformerConfig(
        state_dim=11, act_dim=3, max_ep_len=timesteps, hidden_size=m.d_model, n_layer=m.n_layers, n_head=1,
        activation_function=activation, n_positions=3 * m.context, vocab_size=1,
        resid_pdrop=m.dropout, embd_pdrop=m.dropout, attn_pdrop=m.dropout,
    )  # fmt: skip
    made = nn.Module()
    made.model = package.DecisionTransformerModel(settings)
    return made


def left_padded(data: Trajectories, starts: list[int], K: int) -> Iterator[dict[str, Tensor]]:
    """Windows as Decision Transformer's code for Gym makes them, one at a time: zeros and a mask on the left."""
    mean, std = data.states.mean(0), data.states.std(0)
    for start in starts:
        episode = int(np.searchsorted(data.offsets, start, side="right")) - 1
        first, end = int(data.offsets[episode]), int(data.offsets[episode + 1])
        steps = range(start, min(start + K, end))
        missing = K - len(steps)
        rows = list(steps)
        to_go = [sum(float(r) for r in data.rewards[t:end]) / 1000 for t in steps]
        yield {
            "states": torch.tensor(np.vstack([np.zeros((missing, 11)), (data.states[rows] - mean) / std])).float(),
            "actions": torch.tensor(np.vstack([np.full((missing, 3), -10.0), data.actions[rows]])).float(),
            "returns_to_go": torch.tensor([0.0] * missing + to_go).unsqueeze(-1),
            "timesteps": torch.tensor([0] * missing + [t - first for t in steps]),
            "attention_mask": torch.tensor([0] * missing + [1] * len(steps)),
        }


def test_the_first_loss_equals_that_of_transformers(hopper_store: Path, tiny_cell: Any) -> None:
    cell = gym_cell(task=tiny_cell().task)
    cell = replace(cell, model=replace(cell.model, dropout=0.0))
    data = store.read(cell.task.data_id)
    agent = make_agent(cell, data)
    sampler = SAMPLERS[cell.data.windows](
        data, cell.model.context, cell.train.batch_size, cell.seed, torch.device("cpu")
    )
    batch, starts = sampler.batch(0), sampler.starts(0).tolist()
    assert not batch.mask.all(), "no window is padded"
    theirs = theirs_for(cell, len(agent.tokenizer.embed_timestep.weight))
    for weight in decision_transformer_weights(agent, theirs):
        with torch.no_grad():
            weight.theirs.copy_(weight.arranged(*weight.ours))
    made = list(left_padded(data, starts, cell.model.context))
    inputs = {name: torch.stack([one[name] for one in made]) for name in made[0]}
    with torch.no_grad():
        predicted = theirs.model(**inputs).action_preds
        real = inputs["attention_mask"].bool()
        expected = (predicted[real] - inputs["actions"][real]).square().mean()
        loss = agent.loss(batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert loss.item() > 0.1


def paper_model(cell: Cell) -> ModelSettings:
    return ModelSettings(**vars(cell.model))


def spread(module: nn.Module, name: str) -> float:
    return module.get_parameter(name).detach().std(correction=0).item()


def test_gym_starts_as_pytorch_with_gpt2_inside() -> None:
    """The original's modules are plain, and only its GPT-2 has an initialisation of its own, without scaled outputs."""
    torch.manual_seed(0)
    agent = build_agent("transformer", None, paper_model(gym_cell()), HOPPER)
    plain: dict[str, nn.Module] = {
        "tokenizer.embed_timestep": nn.Embedding(1000, 128), "tokenizer.embed_return": nn.Linear(1, 128),
        "tokenizer.encoder.project": nn.Linear(11, 128), "tokenizer.embed_action": nn.Linear(3, 128),
        "head.project": nn.Linear(128, 3),
    }  # fmt: skip
    for path, layer in plain.items():
        for name, theirs in layer.named_parameters():
            ours = agent.get_submodule(path).get_parameter(name)
            if ours.numel() > 3:  # the head's bias has three numbers
                limit = 0.25 if ours.numel() < 400 else 0.08
                assert ours.std().item() == pytest.approx(theirs.std().item(), rel=limit), (path, name)
            if isinstance(layer, nn.Linear):  # uniform
                assert 0 < ours.abs().max() <= layer.in_features**-0.5
    for name, weight in agent.backbone.named_parameters():
        if weight.ndim == 2:
            assert weight.std().item() == pytest.approx(0.02, rel=0.03), name


def test_the_default_start_is_that_of_transformers_port() -> None:
    """The port starts embeddings and heads from N(0, 0.02) and scales GPT-2's outputs. The original does neither."""
    cell = gym_cell()
    model = replace(paper_model(cell), init="gpt2", residual_scale=True)
    torch.manual_seed(0)
    agent = build_agent("transformer", None, model, HOPPER)
    theirs = theirs_for(cell, 1000)
    for weight in decision_transformer_weights(agent, theirs):
        (ours,) = weight.ours
        if ours.ndim == 2:
            limit = 0.25 if ours.numel() < 400 else 0.08
            assert ours.std().item() == pytest.approx(weight.theirs.std().item(), rel=limit), weight.name
        else:
            assert torch.equal(ours, weight.theirs), weight.name


def test_atari_starts_as_mingpt() -> None:
    (cell,) = cells(["transformer"], "atari", "paper", [0], ["breakout"])
    torch.manual_seed(0)
    agent = build_agent("transformer", dict(cell.options), paper_model(cell), BREAKOUT)
    tokenizer = agent.tokenizer
    assert tokenizer.embed_place is not None
    assert not tokenizer.embed_timestep.weight.any()
    assert not tokenizer.embed_place.weight.any()
    for name in ("weight", "bias"):  # uniform on (-1, 1)
        assert spread(tokenizer.embed_return, name) == pytest.approx(3**-0.5, rel=0.15)
        assert tokenizer.embed_return.get_parameter(name).abs().max() <= 1
    small = [tokenizer.embed_action.weight, agent.head.project.weight]
    for weight in [*small, *(p for p in agent.backbone.parameters() if p.ndim == 2)]:
        assert weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_on_gym_every_parameter_decays_and_on_atari_matrices_alone() -> None:
    agent = build_agent("transformer", None, paper_model(gym_cell()), HOPPER)

    def decaying(cell: Cell, agent: Agent) -> int:
        groups = make_optimizer(agent, cell.train, torch.device("cpu")).param_groups
        return sum(p.numel() for group in groups if group["weight_decay"] > 0 for p in group["params"])

    everything = sum(p.numel() for p in agent.parameters())
    assert decaying(gym_cell(), agent) == everything
    usual = replace(gym_cell(), train=replace(gym_cell().train, decay="matrices"))
    assert decaying(usual, agent) < 0.9 * everything
    (breakout,) = cells(["transformer"], "atari", "paper", [0], ["breakout"])
    assert breakout.train.decay == "matrices"


def test_gym_learning_rates_equal_the_original_s() -> None:
    train = gym_cell().train
    expected = [1e-4 * min((step + 1) / 10_000, 1) for step in range(100_000)]
    assert [learning_rate(step, train) for step in range(100_000)] == pytest.approx(expected, rel=1e-12)


def original_rates(K: int, batch: int, epochs: int = 5) -> list[float]:
    """Decision Transformer's code for Atari sets the rate after each update, by the actions seen so far."""
    windows, rate, tokens = 500_000 - 3 * K, 6e-4, 0
    warm, final, rates = 512 * 20, 2 * windows * 3 * K, []
    for _ in range(epochs):
        for start in range(0, windows, batch):
            rates.append(rate)
            tokens += min(batch, windows - start) * K
            if tokens < warm:
                rate = 6e-4 * tokens / warm
            else:
                rate = 6e-4 * max(0.1, 0.5 * (1 + math.cos(math.pi * (tokens - warm) / (final - warm))))
    return rates


@pytest.mark.parametrize(("task", "context", "batch"), [("breakout", 30, 128), ("pong", 50, 512)])
def test_atari_learning_rates_equal_the_original_s_after_the_warm_up(task: str, context: int, batch: int) -> None:
    (cell,) = cells(["transformer"], "atari", "paper", [0], [task])
    assert (cell.model.context, cell.train.batch_size) == (context, batch)
    ours, theirs = [learning_rate(step, cell.train) for step in range(cell.train.steps)], original_rates(context, batch)
    assert len(ours) == len(theirs)
    warm = cell.train.warmup
    # The last batch of an original's epoch is smaller, and the numbers of updates are whole here.
    np.testing.assert_allclose(ours[warm:], theirs[warm:], rtol=0, atol=6e-4 * 1e-3)
    assert min(ours[warm:]) == pytest.approx(6e-4 * 0.1)
    first = {"breakout": ([1 / 3, 2 / 3, 1], [1, 0.375, 0.75]), "pong": ([1], [1])}[task]
    assert [[rate / 6e-4 for rate in rates[:warm]] for rates in (ours, theirs)] == [pytest.approx(r) for r in first]


def test_decision_mamba_has_a_learning_rate_and_a_width_for_each_data_set() -> None:
    made = {cell.task.name: cell for cell in cells(["mamba"], "d4rl", "paper-decision-mamba", [0])}
    wide, slow = {"hopper-medium", "hopper-medium-replay"}, {"hopper-medium", "hopper-medium-replay", "walker2d-medium"}
    assert {name for name, cell in made.items() if cell.model.d_model == 256} == wide
    assert {name for name, cell in made.items() if cell.train.lr == 1e-4} == slow
    assert {cell.model.d_model for name, cell in made.items() if name not in wide} == {128}
    assert {cell.train.lr for name, cell in made.items() if name not in slow} == {1e-3}
    paper = {cell.task.name: cell for cell in cells(["mamba"], "d4rl", "paper", [0])}
    for name, cell in made.items():  # all else is Decision Transformer's
        as_paper = replace(
            cell, preset="paper", model=replace(cell.model, d_model=128), train=replace(cell.train, lr=1e-4)
        )
        assert as_paper == paper[name]
        assert cell.options["activation"] == "gelu"


def test_a_preset_for_gym_is_refused_for_games() -> None:
    with pytest.raises(
        UserError, match="'paper-decision-mamba' has no settings for suite 'atari'; there is: paper, quick"
    ):
        cells(["mamba"], *GYM_ONLY[0], [0])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.init=zeros", "model.init=zeros: give one of gpt2, torch, mingpt"),
        ("data.windows=left", "data.windows=left: give one of uniform, episode, shifted"),
        ("train.decay=none", "train.decay=none: give one of matrices, all"),
        ("train.schedule=linear", "train.schedule=linear: give one of constant, cosine, cosine_floor"),
        ("train.schedule_steps=9", "train.schedule_steps=9: a constant schedule has none; give 0"),
        ("train.schedule_steps=-1", "train.schedule_steps=-1: give 0 or more"),
        ("eval.timestep=current", "eval.timestep=current needs model.timestep=window"),
        ("eval.timestep=now", "eval.timestep=now: give one of first, current"),
    ],
)
def test_a_setting_that_does_not_exist_or_fit_is_one_line(override: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        cells(["transformer"], "d4rl", "paper", [0], ["hopper-medium"], overrides=[override])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_data_set_too_small_for_shifted_windows_is_refused(hopper_store: Path, tiny_cell: Any) -> None:
    data = store.read(tiny_cell().task.data_id)
    fits = (len(data.rewards) - 1) // 3
    check_data(tiny_cell(data__windows="shifted", model__context=fits), data)
    with pytest.raises(UserError, match=r"steps; it needs more than [\d,]+, three times model\.context"):
        check_data(tiny_cell(data__windows="shifted", model__context=fits + 1), data)


def test_episodes_longer_than_the_window_are_refused(hopper_store: Path, tiny_cell: Any) -> None:
    data = store.read(tiny_cell().task.data_id)
    longest = int(data.lengths.max())
    check_data(tiny_cell(data__windows="episode", model__context=longest), data)
    with pytest.raises(UserError, match=f"episodes of {longest:,} steps.*; give model.context={longest} or"):
        check_data(tiny_cell(data__windows="episode", model__context=longest - 1), data)
