"""Agents as ONNX graphs decide as the agents themselves."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from small_agents import PIXELS, VECTOR, in_turns, small_agent
from torch import Tensor

from backbench.agents.agent import Agent
from backbench.agents.heads import ActionSpace
from backbench.backbones import BACKBONES
from backbench.backbones.contract import Mixer
from backbench.benchmarks.export import onnx
from backbench.errors import UserError

needs_onnx = pytest.mark.skipif(onnx.missing() is not None, reason=str(onnx.missing()))


def written_difference(agent: Agent, kind: str, folder: Path, shape: tuple[int, ...] = VECTOR) -> float:
    graph = onnx.graphs(agent, shape, 3)[0][kind]
    onnx.write(graph, folder / kind)
    return onnx.difference(agent, graph, folder / kind)


@pytest.fixture(scope="module", autouse=True)
def _operators_are_listed_once() -> Iterator[None]:
    """The exporter makes its table of operators anew for each graph, which takes a third of the time."""
    with pytest.MonkeyPatch.context() as patch:
        if onnx.missing() is None:
            from torch.onnx._internal.exporter._registration import ONNXRegistry

            patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(cache(ONNXRegistry.from_torchlib)))
        yield


@needs_onnx
@pytest.mark.parametrize("names", in_turns(BACKBONES.names()))
def test_twenty_steps_of_a_graph_equal_those_of_the_agent(names: str, tmp_path: Path) -> None:
    agent = small_agent(names)
    graph = onnx.graphs(agent, VECTOR, 3)[0][onnx.STEP]
    onnx.write(graph, tmp_path / onnx.STEP, optimise=False)  # a third of the time; the other tests optimise
    assert onnx.difference(agent, graph, tmp_path / onnx.STEP) < onnx.CLOSE


@needs_onnx
@pytest.mark.parametrize("name", ["transformerpp", "convformer"])
def test_a_window_s_graph_equals_the_agent_at_every_step(name: str, tmp_path: Path) -> None:
    assert written_difference(small_agent(name), onnx.WINDOW, tmp_path) < onnx.CLOSE


@needs_onnx
def test_discrete_actions_and_pixels_have_a_graph(tmp_path: Path) -> None:
    agent = small_agent("mlp", shape=PIXELS, actions=ActionSpace(4, discrete=True), timestep="window", embedding="tanh")
    found, reasons = onnx.graphs(agent, PIXELS, 3)
    assert list(found) == [onnx.WINDOW]
    assert reasons == ["no step.onnx: with model.timestep=window every token changes when the window moves"]
    assert found[onnx.WINDOW].outputs == ["logits"]
    assert written_difference(agent, onnx.WINDOW, tmp_path, PIXELS) < onnx.CLOSE


@needs_onnx
def test_a_layout_without_returns_and_actions_has_a_graph(tmp_path: Path) -> None:
    agent = small_agent("gru", tokens="s", timestep="none", actions=ActionSpace(4, discrete=True))
    assert written_difference(agent, onnx.STEP, tmp_path) < onnx.CLOSE


@needs_onnx
def test_a_graph_of_other_weights_differs(tmp_path: Path) -> None:
    agent = small_agent("identity")
    graph = onnx.graphs(agent, VECTOR, 3)[0][onnx.STEP]
    onnx.write(graph, tmp_path / "x.onnx")
    with torch.no_grad():
        agent.head.project.bias.add_(0.01)
    assert onnx.difference(agent, graph, tmp_path / "x.onnx") > 1e-3


def test_inputs_and_outputs_have_names_and_shapes() -> None:
    step = onnx.graphs(small_agent("transformer"), VECTOR, 3)[0][onnx.STEP]
    shapes = {name: tuple(one.shape) for name, one in step.inputs.items()}
    assert shapes["observation"] == (1, 5)
    assert shapes["previous_action"] == (1, 3)
    assert shapes["return_to_go"] == shapes["timestep"] == (1,)
    assert [name for name in shapes if name.startswith("state_")] == ["state_0", "state_1", "state_2"]
    assert step.outputs == ["action", "next_state_0", "next_state_1", "next_state_2"]


class Sum(Mixer):
    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1)


def test_an_agent_without_a_graph_is_refused_with_the_reasons() -> None:
    with pytest.raises(UserError, match=r"no step\.onnx: Sum has no step of its own; no window\.onnx: Sum loops"):
        onnx.graphs(small_agent(Sum), VECTOR, 3)


@needs_onnx
def test_an_operation_that_onnx_lacks_is_one_line(tmp_path: Path) -> None:
    class Odd(Sum):
        def step(self, x_t: Tensor, state: Any) -> Any:
            return torch.linalg.eigvals(torch.diag_embed(x_t)).real, state

        def initial_state(self, batch: int, device: Any = None, dtype: Any = None) -> Any:
            return ()

    graph = onnx.graphs(small_agent(Odd), VECTOR, 3)[0][onnx.STEP]
    with pytest.raises(UserError, match=r"^torch cannot translate this agent to ONNX \(.*\); export it as") as caught:
        onnx.write(graph, tmp_path / "x.onnx")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
