"""One decision of exported agents in onnxruntime beside Backbench's own, at batch 1 and with one thread.

    OMP_NUM_THREADS=1 PYTHONPATH=src python tools/time_exports.py gloma mamba transformer

Agents have new weights, the sizes of preset quick, and Hopper's spaces. Both sides play the same time in turns.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from backbench.agents.acting import make_actor
from backbench.agents.agent import Agent
from backbench.agents.build import ModelSettings, Spaces, build_agent
from backbench.agents.heads import ActionSpace
from backbench.backbones import BACKBONES
from backbench.benchmarks.export import onnx
from backbench.benchmarks.export.graphs import NEXT, STATE
from backbench.errors import UserError

OBSERVATION, ACTION, CONTEXT = 11, 3, 10
WARM, DECISIONS, ROUNDS = 30, 60, 5


def agent_of(name: str) -> Agent:
    torch.manual_seed(0)
    sizes = ModelSettings(d_model=64, n_layers=2, dropout=0.1, context=CONTEXT)
    return build_agent(name, {}, sizes, Spaces((OBSERVATION,), ActionSpace(ACTION), 1000, 1000.0)).eval()


def product(agent: Agent, protocol: str) -> Callable[[], Any]:
    actor, state = make_actor(agent, protocol, torch.tensor([3600.0]), CONTEXT), torch.zeros(1, OBSERVATION)
    reward = torch.ones(1)

    def decide() -> None:
        actor.act(state)
        actor.update(reward)

    return decide


def exported(graph: onnx.Graph, path: Path) -> Callable[[], Any]:
    onnx.write(graph, path)
    run = onnx.session(path)
    inputs = {name: one.numpy() for name, one in graph.inputs.items()}

    def decide() -> None:
        for name, value in run(**inputs).items():
            if name.startswith(NEXT):
                inputs[name.replace(NEXT, STATE)] = value

    return decide


def milliseconds(sides: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """The median time of a decision of each side."""
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for side in sides.values():
        for _ in range(WARM):
            side()
    for _ in range(ROUNDS):
        for name, decide in sides.items():
            for _ in range(DECISIONS):
                began = time.perf_counter()
                decide()
                taken[name].append(1e3 * (time.perf_counter() - began))
    return {name: median(values) for name, values in taken.items()}


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    print("| backbone | protocol | Backbench, ms | onnxruntime, ms | ratio |\n|---|---|---:|---:|---:|")
    with TemporaryDirectory() as folder:
        for name in names or BACKBONES.names():
            agent = agent_of(name)
            try:
                graphs = onnx.graphs(agent, (OBSERVATION,), CONTEXT)[0]
            except UserError as error:
                print(f"| {name} | {error} | | | |")
                continue
            for file, protocol in ((onnx.STEP, "recurrent"), (onnx.WINDOW, "window")):
                if file not in graphs:
                    continue
                sides = {
                    "ours": product(agent, protocol),
                    "theirs": exported(graphs[file], Path(folder, f"{name}-{file}")),
                }
                found = milliseconds(sides)
                ratio = f"{found['ours'] / found['theirs']:.1f}"
                print(f"| {name} | {protocol} | {found['ours']:.3f} | {found['theirs']:.3f} | {ratio} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
