"""ONNX: an agent as a graph for onnxruntime and other programs, checked against the agent itself."""

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backbench.agents.acting import RecurrentActor
from backbench.agents.agent import Agent
from backbench.backbones.contract import Causal
from backbench.backbones.kernels.dispatch import traced
from backbench.backbones.stack import ResidualStack
from backbench.benchmarks.export.graphs import NEXT, STATE, Graph, Step, Window
from backbench.errors import UserError, first_line

NEEDS = ("onnx", "onnxscript", "onnxruntime")
STEP, WINDOW = "step.onnx", "window.onnx"
CLOSE = 1e-5  # most that outputs may differ from the agent's
STEPS = 20  # that are compared
# Mixers whose window is a few large operations. Those of the others are loops over its tokens, in ONNX one node after
# the other: slower than the step by more than a hundred times.
WITHOUT_LOOPS = ("Convformer", "Identity", "StepMLP", "Transformer", "TransformerPP")


def missing() -> str | None:
    """One line if a package is not installed, else None."""
    absent = [name for name in NEEDS if find_spec(name) is None]
    return f"ONNX needs {', '.join(absent)}: pip install 'backbench[onnx]'" if absent else None


def graphs(agent: Agent, shape: tuple[int, ...], context: int) -> tuple[dict[str, Graph], list[str]]:
    """The graphs of an agent that sees states of ``shape``, by the names of their files, and a line for each that it
    cannot have.

    Raises UserError if it has none.
    """
    found: dict[str, Graph] = {}
    reasons = []
    if (reason := no_step(agent)) is None:
        found[STEP] = Step(agent, shape)
    else:
        reasons.append(f"no {STEP}: {reason}")
    loops = sorted({type(part).__name__ for part in _mixers(agent) if type(part).__name__ not in WITHOUT_LOOPS})
    if not loops:
        found[WINDOW] = Window(agent, shape, context)
    else:
        reasons.append(f"no {WINDOW}: {', '.join(loops)} loops over the tokens of a window")
    if not found:
        raise UserError(f"this agent has no ONNX graph: {'; '.join(reasons)}")
    return found, reasons


def no_step(agent: Agent) -> str | None:
    """Why an agent cannot carry its state in ONNX; None if it can."""
    if not agent.tokenizer.slides:
        return "with model.timestep=window every token changes when the window moves"
    for part in _mixers(agent):
        name = type(part).__name__
        if type(part).step is Causal.step:
            return f"{name} has no step of its own"
    return None


def _mixers(agent: Agent) -> list[Causal]:
    stack = agent.backbone
    layers: Any = stack.layers if isinstance(stack, ResidualStack) else ()
    return [layer.mixer for layer in layers] or [stack]


def write(graph: Graph, path: Path, optimise: bool = True) -> None:
    """Write a graph, ``optimise``: with constants folded. Raises UserError if torch cannot translate it."""
    arguments = tuple(graph.inputs.values())
    try:
        with traced(), torch.no_grad(), _quiet():
            program = torch.onnx.export(
                graph.eval(), arguments, dynamo=True, verbose=False, optimize=optimise,
                input_names=list(graph.inputs), output_names=graph.outputs,
            )  # fmt: skip
            assert program is not None
            program.save(path, external_data=False)
    except Exception as error:  # of the exporter, for an operation that it does not know
        cause = first_line(error.__cause__ or error)
        raise UserError(f"torch cannot translate this agent to ONNX ({cause}); export it as safetensors") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints progress and warnings of its own, which say nothing about the agent."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


Run = Callable[..., dict[str, NDArray[Any]]]  # inputs by name -> outputs by name


def session(path: Path) -> Run:
    """The graph at ``path`` in onnxruntime, with one thread: a function of its inputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    made = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [one.name for one in made.get_outputs()]
    known = {one.name for one in made.get_inputs()}

    def run(**inputs: Any) -> dict[str, NDArray[Any]]:
        given = {name: np.asarray(value) for name, value in inputs.items() if name in known}
        return dict(zip(names, made.run(names, given), strict=True))

    return run


def difference(agent: Agent, graph: Graph, path: Path) -> float:
    """The largest difference between an agent's outputs and those of its ``graph`` in ``path``, on random inputs.

    A step is compared over ``STEPS`` decisions with those of the product, a window over all its positions.
    """
    generator = torch.Generator().manual_seed(0)
    inputs = {name: _random(example, generator) for name, example in graph.inputs.items()}
    compare = _of_steps if isinstance(graph, Step) else _of_window
    return compare(agent, session(path), inputs)


def _random(like: Tensor, generator: torch.Generator) -> Tensor:
    if like.is_floating_point():
        return torch.randn(like.shape, generator=generator)
    if like.dtype == torch.uint8:
        return torch.randint(256, like.shape, generator=generator, dtype=torch.uint8)
    return like


def _of_window(agent: Agent, run: Run, inputs: dict[str, Tensor]) -> float:
    names = ("returns_to_go", "observations", "actions", "timesteps")
    with torch.no_grad():
        return _apart(next(iter(run(**inputs).values())), agent(*(inputs[name] for name in names)))


def _of_steps(agent: Agent, run: Run, inputs: dict[str, Tensor]) -> float:
    """One episode: both get the actions of the agent, and the graph gets its own state."""
    worst = 0.0
    heard: list[Tensor] = []
    listener = agent.head.register_forward_hook(lambda module, given, output: heard.append(output))
    generator = torch.Generator().manual_seed(1)
    actor = RecurrentActor(agent, inputs["return_to_go"], 0)
    try:
        for time in range(STEPS):
            observation = _random(inputs["observation"], generator)
            action = actor.act(observation, torch.rand(1, generator=generator))
            inputs |= {"observation": observation, "return_to_go": actor.target, "timestep": torch.tensor([time])}
            outputs = run(**inputs)
            worst = max(worst, _apart(next(iter(outputs.values())), heard.pop()))
            inputs |= {name.replace(NEXT, STATE): torch.from_numpy(value) for name, value in outputs.items()}
            inputs["previous_action"] = action
            actor.update(torch.randn(1, generator=generator))
    finally:
        listener.remove()
    return worst


def _apart(one: NDArray[Any], other: Tensor) -> float:
    return float((torch.from_numpy(one) - other).abs().max())
