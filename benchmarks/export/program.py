"""``torch.export``: the window of an agent as a program of torch, with its compiled kernels as operators."""

import warnings
from pathlib import Path

import torch

from backbench.agents.agent import Agent
from backbench.benchmarks.export.graphs import Window
from backbench.errors import UserError, first_line

WINDOW = "window.pt2"


def trace(graph: Window) -> torch.export.ExportedProgram:
    """The program of a window. Raises UserError if torch cannot follow the agent."""
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of recurrent layers, which keep their weights in a list as well
            return torch.export.export(graph.eval(), (), graph.inputs)
    except Exception as error:  # of the tracer, for what a backbone does
        raise UserError(
            f"torch.export cannot follow this agent ({first_line(error)}); export it as safetensors"
        ) from error


def write(agent: Agent, shape: tuple[int, ...], context: int, path: Path) -> float:
    """Write the program of the window; the largest difference from the agent on random inputs."""
    graph = Window(agent, shape, context)
    program = trace(graph)
    torch.export.save(program, path)
    inputs = {name: torch.rand_like(one) if one.is_floating_point() else one for name, one in graph.inputs.items()}
    with torch.no_grad():
        return float((program.module()(**inputs) - graph(**inputs)).abs().max())
