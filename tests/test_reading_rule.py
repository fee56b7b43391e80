"""Foreign files are read by ``backbench.reading`` and ``benchmarks.data.hdf5``; a list says who else opens files."""

from __future__ import annotations

import ast
import os
from functools import cache
from pathlib import Path

import pytest

import backbench

PACKAGE = Path(backbench.__file__).parent

# Calls that open or parse a file, by their last names. ``x.open`` counts for any x.
METHODS = {"read_text", "read_bytes", "open", "memmap", "fromfile", "loadtxt", "genfromtxt", "model_validate_json"}
CALLS = {
    "json.load", "json.loads", "yaml.load", "yaml.safe_load", "yaml.full_load", "yaml.unsafe_load", "gzip.GzipFile",
    "h5py.File", "np.load", "numpy.load", "csv.reader", "csv.DictReader", "torch.load", "safetensors.safe_open",
    "minari.load_dataset", "minari.MinariDataset", "pickle.load", "pickle.loads", "OmegaConf.load", "zipfile.ZipFile",
    "tarfile.open", "lzma.open", "bz2.open", "sqlite3.connect", "np.fromregex",
}  # fmt: skip
NAMES = {"open", "safe_open", "load_file", "MinariDataset", "MinariStorage", "deserialize_space", "eval", "exec"}
ALLOWED = {
    "reading": "the reader of files",
    "files": "writes",
    "claims": "writes into its own claim",
    "owner": "/proc of this machine",
    "terminal": "os.devnull",
    "leaderboard.board.notes": "parses the conventions that the board wrote itself, from checked records",
    "benchmarks.data.hdf5": "the reader of HDF5",
    "benchmarks.data.trial": "/proc of this process",
    "benchmarks.data.frames": "writes frames, and reads windows of a file that reading has opened before",
    "benchmarks.data.store.flat": "writes; parses the first line of a file that it wrote, see its stamp",
    "benchmarks.data.store.framestore": "writes HDF5",
    "benchmarks.data.policies.gaussian": "the policies in the package",
    "benchmarks.data.download": "appends to a part, and opens addresses",
    "benchmarks.data.sources.d4rl": "Folder.open and Remote.open, which give a path",
    "benchmarks.data.sources.dqn_replay": "Folder.open and Remote.open, which give a path",
    "benchmarks.data.sources.minari.client": "os.devnull",
    "benchmarks.data.store.episodes": "a picture in memory, of a declared kind and size",
    "benchmarks.replay.load": "safetensors, after check_safetensors",
    "benchmarks.replay.pictures": "arrays that its own child process wrote",
    "benchmarks.run.executors.on_ray": "appends to a log",
    "benchmarks.run.checkpoint": "checkpoints, with weights_only",
    "benchmarks.run.results": "the header of safetensors, after check_safetensors",
    "benchmarks.api.runs": "os.devnull",
    "benchmarks.api.merge": "copies plans, which status reads checked",
    "benchmarks.run.sinks.mlflow": "MLflow's database",
    "benchmarks.run.sinks.log": "the folder's id",
    "benchmarks.speed.parts.training": "/proc of this process",
    "backbones.check": "a file that it has just written, with weights_only",
    "leaderboard.record.files": "text that reading has parsed before",
}


@cache
def modules() -> dict[str, str]:
    """Name below ``backbench`` to source, of every module of the product."""
    found = {}
    for folder, below, files in os.walk(PACKAGE, followlinks=True):
        below[:] = [name for name in below if name not in ("__pycache__", "published")]
        for path in (Path(folder, file) for file in files if file.endswith(".py")):
            name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    return found


def opens(source: str) -> list[tuple[int, str]]:
    """Line and name of every call that opens or parses a file."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        last = name.rpartition(".")[2]
        wrong = name in CALLS or (isinstance(node.func, ast.Attribute) and last in METHODS)
        if wrong or (isinstance(node.func, ast.Name) and last in NAMES):
            found.append((node.lineno, name))
    return found


def test_files_are_opened_by_the_readers_only() -> None:
    others = {name: source for name, source in modules().items() if name not in ALLOWED}
    wrong = [f"{name}:{line} calls {call}" for name, source in others.items() for line, call in opens(source)]
    assert wrong == [], "read it with backbench.reading, or give a reason in ALLOWED"


def test_no_reason_is_out_of_date() -> None:
    known = modules()
    assert [name for name in ALLOWED if name not in known or not opens(known[name])] == []


@pytest.mark.parametrize(
    "line",
    ["p.read_text()", "open(p)", "p.open('rb')", "json.loads(x)", "yaml.safe_load(x)", "gzip.open(p)", "h5py.File(p)",
     "np.load(p)", "Record.model_validate_json(x)", "os.open(p, 0)", "csv.DictReader(f)", "torch.load(p)"],
)  # fmt: skip
def test_the_rule_finds_what_is_planted(line: str) -> None:
    assert len(opens(line)) == 1


def test_nothing_is_unpickled() -> None:
    """``torch.load`` says ``weights_only=True`` and ``np.load`` ``allow_pickle=False``, each time."""
    wanted = {"torch.load": "weights_only=True", "np.load": "allow_pickle=False"}
    for name, source in modules().items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and (said := wanted.get(ast.unparse(node.func))):
                assert said in [ast.unparse(one) for one in node.keywords], f"{name}:{node.lineno}"
