"""Windows as programs of ``torch.export``: each backbone has one, and it computes what the agent does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_agents import VECTOR, in_turns, small_agent

from backbench.backbones import BACKBONES
from backbench.backbones.kernels.native import loader
from backbench.benchmarks.export import program
from backbench.benchmarks.export.graphs import Window
from backbench.errors import UserError

CLOSE = 1e-6


def random_inputs(graph: Window) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {name: torch.randn_like(one) if one.is_floating_point() else one for name, one in graph.inputs.items()}


@pytest.mark.parametrize("names", in_turns(BACKBONES.names()))
def test_the_program_of_a_window_equals_the_agent(names: str) -> None:
    graph = Window(small_agent(names), VECTOR, 3)
    given = random_inputs(graph)
    with torch.no_grad():
        assert (program.trace(graph).module()(**given) - graph(**given)).abs().max() < CLOSE


@pytest.mark.skipif(loader.missing() is not None, reason=str(loader.missing()))
@pytest.mark.parametrize(
    ("name", "operators"),
    [("gloma", {"selective_scan", "causal_conv1d"}), ("rglru", {"diagonal_recurrence", "causal_conv1d"})],
)
def test_compiled_kernels_are_operators_of_a_program(name: str, operators: set[str]) -> None:
    traced = program.trace(Window(small_agent(name), VECTOR, 3)).graph_module
    # Kernels turn autocast off, which puts them into graphs of their own.
    graphs = [part.graph for part in traced.modules() if isinstance(part, torch.fx.GraphModule)]
    targets = [str(node.target) for graph in graphs for node in graph.nodes]
    found = {target.split(".")[1] for target in targets if target.startswith("backbench.")}
    assert found == operators


@pytest.mark.skipif(loader.missing() is not None, reason=str(loader.missing()))
def test_an_operator_has_the_shape_that_it_announces() -> None:
    x, weight, bias = torch.randn(2, 7, 8).transpose(0, 1), torch.randn(8, 4), torch.randn(8)
    torch.library.opcheck(torch.ops.backbench.causal_conv1d.default, (x, weight, bias, True))


def test_a_saved_program_runs_in_another_process_with_the_operators_imported(tmp_path: Path) -> None:
    path = tmp_path / program.WINDOW
    assert program.write(small_agent("mamba"), VECTOR, 3, path) < CLOSE
    code = "import torch, backbench.backbones.kernels as _\n"
    code += f"window = torch.export.load({str(path)!r}).module()\n"
    code += "given = {'observations': torch.zeros(1, 3, 5), 'returns_to_go': torch.zeros(1, 3)}\n"
    code += "given |= {'actions': torch.zeros(1, 3, 3), 'timesteps': torch.arange(3)[None]}\n"
    code += "print(window(**given).shape)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "torch.Size([1, 3, 3])", done.stderr[-500:]


def test_an_agent_that_cannot_be_followed_is_one_line() -> None:
    from backbench.backbones.contract import Mixer

    class Odd(Mixer):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if bool(x.sum() > 0) else -x

    with pytest.raises(UserError, match=r"^torch\.export cannot follow this agent \(.*\); export it as") as caught:
        program.trace(Window(small_agent(Odd), VECTOR, 3))
    assert "\n" not in str(caught.value)
