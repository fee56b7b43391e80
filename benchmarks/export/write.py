"""``bench export``: a record's agent as a folder that other programs read."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from backbench.agents.agent import Agent
from backbench.benchmarks.export import onnx, program
from backbench.benchmarks.export.card import card
from backbench.benchmarks.export.folder import CARD, CONFIG, RECORD, WEIGHTS, NewFolder, config, content_digest, digest
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.replay.load import find_record, head_of, load_agent
from backbench.benchmarks.replay.trust import cell_to_run
from backbench.benchmarks.run.checkpoint import LAST, save_weights
from backbench.errors import UserError, require, suggest
from backbench.files import write_whole
from backbench.leaderboard.record.files import canonical

FORMATS = ("safetensors", "torch", "onnx")
ABOUT = {
    WEIGHTS: "weights, with the statistics that scale observations",
    CONFIG: "settings, spaces, statistics, target returns, digests",
    RECORD: "the record: scores of each episode, settings, versions, machine",
    onnx.STEP: "one decision with a carried state, for onnxruntime",
    onnx.WINDOW: "the decisions of a window, for onnxruntime",
    program.WINDOW: "the decisions of a window, for torch.export",
}


@dataclass(frozen=True)
class Request:
    """What ``bench export`` was asked for."""

    name: str  # path of a record, or a unique part of its key
    to: Path  # a new folder, or an empty one
    formats: tuple[str, ...] = ("safetensors",)  # weights in safetensors are always written
    results: Path = Path("results")
    trust: bool = False


def export(asked: Request) -> list[str]:
    """Write the folder, completely or not at all; lines that say what was written.

    Raises UserError: no such record or weights, a failed cell, an unknown format, a folder with content, a missing
    package, or an agent that the format cannot have.
    """
    for name in asked.formats:
        require(name in FORMATS, f"--format {name}: there is no such format{suggest(name, FORMATS)}")
    absent = onnx.missing() if "onnx" in asked.formats else None
    require(absent is None, f"--format onnx: {absent}")
    record, results = find_record(asked.name, asked.results)
    require(record.scores is not None, f"{record.key} failed, so it has no agent to export; run the cell again")
    cell = cell_to_run(record, record.key, asked.trust)
    weights = cell.checkpoint_folder(results) / LAST
    with torch.random.fork_rng(devices=[]):  # a fresh agent seeds the global generator
        agent = load_agent(cell, weights, head_of(record), record.provenance.weights_sha256)
    content = config(record, cell, agent)
    shape = tuple(content["observation"]["shape"])
    lines: list[str] = []
    with NewFolder(asked.to) as folder:
        save_weights(folder / WEIGHTS, agent.state_dict(), {"cell": cell.key, "format": "pt"})
        write_whole(folder / RECORD, canonical(record, as_read=True))
        (folder / WEIGHTS).chmod((folder / RECORD).stat().st_mode)  # safetensors lets nobody else read its files
        if "onnx" in asked.formats:
            lines += _write_onnx(agent, cell, shape, folder)
        if "torch" in asked.formats:
            lines += _write_program(agent, cell, shape, folder)
        graphs = [path for path in sorted(folder.iterdir()) if path.name not in (WEIGHTS, RECORD)]
        content["graphs"] = {path.name: digest(path) for path in graphs}
        content["sha256"] = content_digest(content)
        write_whole(folder / CONFIG, json.dumps(content, indent=1, allow_nan=False) + "\n")
        there = [name for name in ABOUT if (folder / name).is_file()]
        write_whole(folder / CARD, card(record, cell, {name: ABOUT[name] for name in there}))
    return [f"written: {asked.to} ({', '.join([*there, CARD])})", *lines]


def _write_onnx(agent: Agent, cell: Cell, shape: tuple[int, ...], folder: Path) -> list[str]:
    graphs, reasons = onnx.graphs(agent, shape, cell.model.context)
    lines = []
    for name, graph in graphs.items():
        onnx.write(graph, folder / name)
        apart = onnx.difference(agent, graph, folder / name)
        if not apart < onnx.CLOSE:
            raise UserError(f"{name} differs from the agent by {apart:.1e}; report it, and export safetensors instead")
        lines.append(f"{name}: outputs in onnxruntime differ from the agent's by {apart:.1e} at most")
    lines += reasons
    own = onnx.WINDOW if cell.eval.acting == "window" else onnx.STEP
    if own not in graphs:
        other = ", ".join(graphs)
        lines.append(f"note: the record's scores are of acting={cell.eval.acting}, and {other} acts by the other one")
    return lines


def _write_program(agent: Agent, cell: Cell, shape: tuple[int, ...], folder: Path) -> list[str]:
    apart = program.write(agent, shape, cell.model.context, folder / program.WINDOW)
    return [f"{program.WINDOW}: outputs differ from the agent's by {apart:.1e} at most"]
