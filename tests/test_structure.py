"""The house: rooms, the direction of imports, no cycles, and sizes. docs/architecture.md draws it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from paths import ROOT

import backbench

PACKAGE = Path(backbench.__file__).parent
# Modules of the package's root, which every room may use.
FACE = {"errors", "owner", "files", "claims", "text", "registry", "terminal", "reading",
        "storage"}  # fmt: skip
# A room may import from itself, from FACE, and from the rooms before it in its street.
STREETS = (
    (
        "backbones", "agents", "benchmarks.environments", "benchmarks.data", "benchmarks.plan", "benchmarks.run",
        "benchmarks.tune", "benchmarks.replay", "benchmarks.speed", "benchmarks.export", "benchmarks.studies",
        "benchmarks.api", "benchmarks.cli",
    ),
    ("leaderboard.scores", "leaderboard.record", "leaderboard.board", "leaderboard.trust", "leaderboard.views",
     "leaderboard.check", "leaderboard.__main__"),
    ("configs",),
    ("backbones.flops", "backbones.kernels.native", "backbones.kernels.dispatch", "backbones.kernels", "backbones.fast",
     "backbones.contract", "backbones.stack", "backbones.mixers", "backbones.check"),
)  # fmt: skip
READS_THE_BOARD = "benchmarks."  # rooms below it may import any room of the leaderboard
# Rooms that know nothing of each other.
APART = {("benchmarks.speed", "benchmarks.replay"), ("benchmarks.api", "benchmarks.speed")}
OUTSIDE = {  # what a room may import besides the standard library
    "backbones": {"torch", "numpy", "triton", "mamba_ssm", "causal_conv1d", "flash_attn", "xformers"},
    "agents": {"torch", "numpy"},
    "leaderboard": {"markdown_it", "numpy", "pydantic", "reportlab", "rich", "svglib"},
}
MODULES_IN_A_FOLDER = 12
LINES_OF_A_FILE, LINES_OF_A_FUNCTION, PARAMETERS, LINES_OF_ALL = 500, 60, 6, 37_000


@cache
def modules() -> dict[str, Path]:
    """Name below ``backbench`` to file, of every module of the product."""
    found = {}
    for path in sorted(_walk(PACKAGE)):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        found[name] = path
    return found


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir() and path.name not in ("__pycache__", "published"):
            yield from _walk(path)
        elif path.suffix == ".py":
            yield path


def imports(path: Path) -> list[tuple[int, str]]:
    """Every module that a file imports, anywhere in it, ``from package import module`` as the latter."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("backbench."):
            found.append((node.lineno, node.value.replace(":", ".")))  # "module:Class" is imported later
    return found


def room_of(name: str, street: tuple[str, ...]) -> int | None:
    """Number of the room in ``street`` that the module ``name`` is in; the innermost one."""
    inside = [i for i, room in enumerate(street) if name == room or name.startswith(f"{room}.")]
    return max(inside, key=lambda i: len(street[i]), default=None)


def wrong_way(name: str, imported: str) -> bool:
    """Whether module ``name`` may not import ``imported``, both named below ``backbench``."""
    top, other = name.split(".")[0], imported.split(".")[0]
    if other in FACE or not name:
        return False
    if top in FACE:
        return True
    if top == "leaderboard" and other != "leaderboard":
        return True
    if top == "benchmarks" and other in ("leaderboard", "configs"):
        return False
    if top in ("backbones", "agents") and other == "leaderboard":
        return True
    for street in STREETS:
        here, there = room_of(name, street), room_of(imported, street)
        if here is not None and there is not None and (there > here or (street[here], street[there]) in APART):
            return True
    return False


@pytest.mark.parametrize("part", ["backbones", "agents", "benchmarks", "leaderboard", "configs", *sorted(FACE)])
def test_imports_go_one_way(part: str) -> None:
    wrong = []
    mine = {name: path for name, path in modules().items() if name.split(".")[0] == part}
    assert mine
    for name, path in mine.items():
        for line, imported in imports(path):
            first = imported.split(".")[0]
            if first == "backbench":
                if wrong_way(name, imported.removeprefix("backbench.")):
                    wrong.append(f"{name}:{line} imports {imported}")
            elif part in OUTSIDE and first not in sys.stdlib_module_names and first not in OUTSIDE[part]:
                wrong.append(f"{name}:{line} imports {imported}")
    assert wrong == []


def test_the_check_finds_what_is_planted(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("def f():\n    from backbench.benchmarks.run import cell\nX = 'backbench.agents.agent:Agent'\n")
    assert sorted(imports(path)) == [(2, "backbench.benchmarks.run.cell"), (3, "backbench.agents.agent.Agent")]
    assert wrong_way("benchmarks.data.windows", "benchmarks.run.cell")
    assert wrong_way("leaderboard.board.board", "leaderboard.views.text")
    assert wrong_way("leaderboard.board.board", "backbones.check")
    assert not wrong_way("benchmarks.run.cell", "leaderboard.record.schema")


def test_no_module_imports_itself_in_a_circle() -> None:
    known = modules()
    arrows: dict[str, set[str]] = {name: set() for name in known}
    for name, path in known.items():
        for _, imported in imports(path):
            words = imported.removeprefix("backbench.").split(".") if imported.startswith("backbench.") else []
            while words and ".".join(words) not in known:
                words = words[:-1]
            target = ".".join(words)
            if target and target != name and not name.startswith(f"{target}."):  # a package's own __init__
                arrows[name].add(target)
    circles = []
    while True:  # take away what imports nothing that is left
        free = {name for name, targets in arrows.items() if not targets & arrows.keys()}
        if not free:
            circles = sorted(arrows)
            break
        arrows = {name: targets for name, targets in arrows.items() if name not in free}
    assert circles == []


STATISTICS = "backbench.leaderboard.scores.statistics"
OVER_TASKS = {"mean", "median", "iqm", "optimality_gap", "probability_of_improvement", "performance_profile"}


def test_only_the_board_computes_over_tasks() -> None:
    """It leaves out tasks whose returns share no scale. A view that computed for itself would forget that."""
    users = {
        name
        for name, path in modules().items()
        for _, imported in imports(path)
        if imported == STATISTICS or imported.removeprefix(f"{STATISTICS}.") in OVER_TASKS
    }
    assert users == {"leaderboard.board.columns", "leaderboard.board.analysis"}


def test_weights_are_set_only_by_those_who_own_or_are_handed_them() -> None:
    """A loop over the modules of others would overwrite the start that their authors chose."""
    texts = {name: path.read_text(encoding="utf-8") for name, path in modules().items()}
    owners = {"backbones.contract", "backbones.stack", "backbones.mixers.mamba", "backbones.mixers.gloma"}
    assert {name for name, text in texts.items() if "initialise_gpt2(" in text} == owners
    tokens_and_heads = {"agents.tokenizer", "agents.heads"}
    assert {name for name, text in texts.items() if "nn.init." in text} == {"backbones.contract", *tokens_and_heads}


def test_folders_and_files_have_a_size_that_a_reader_can_hold() -> None:
    folders: dict[Path, int] = {}
    for path in modules().values():
        if path.name != "__init__.py":
            folders[path.parent] = folders.get(path.parent, 0) + 1
    assert {str(f): n for f, n in folders.items() if n > MODULES_IN_A_FOLDER and f.name != "mixers"} == {}
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules().items()}
    assert {name: length for name, length in lengths.items() if length > LINES_OF_A_FILE} == {}
    assert sum(lengths.values()) < LINES_OF_ALL


def test_functions_are_short_and_take_few_parameters() -> None:
    """Outside kernels, where an operation's arguments are what they are; a comment beside the signature is a reason."""
    wrong = []
    for name, path in modules().items():
        if name.startswith("backbones.kernels"):
            continue
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = len(arguments) - (bool(arguments) and arguments[0].arg in ("self", "cls"))
            length = (node.end_lineno or 0) - node.lineno + 1
            start = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
            said = lines[start - 1].lstrip().startswith("# ") or "  # " in lines[node.lineno - 1]
            if (count > PARAMETERS or length > LINES_OF_A_FUNCTION) and not said:
                wrong.append(f"{name}.{node.name}: {length} lines, {count} parameters")
    assert wrong == []


STREAMS = ("sys.stdout", "sys.stderr", "sys.__stdout__", "sys.__stderr__", "typer", "click")


def printing(path: Path) -> list[int]:
    """Each line that prints, makes a console or reads markup by itself instead of asking ``terminal``."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            on = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
            foreign = name in ("Console", "from_markup", "print_json") or (name == "print" and on.startswith("rich"))
            foreign |= name in ("echo", "secho", "write", "writelines") and on in STREAMS
            foreign |= name == "TextColumn" and "markup=False" not in ast.unparse(node)
            foreign |= any(
                word.arg in ("markup", "emoji") and ast.unparse(word.value) != "False" for word in node.keywords
            )
        elif isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            foreign = node.module == "rich.markup" or (node.module == "rich" and bool(names & {"print", "markup"}))
        else:
            foreign = isinstance(node, ast.Name) and node.id == "print"
        if foreign:
            found.append(node.lineno)  # type: ignore[attr-defined]
    return found


def test_only_the_terminal_prints() -> None:
    found = {name: lines for name, path in modules().items() if name != "terminal" and (lines := printing(path))}
    assert found == {}


@pytest.mark.parametrize(
    "code",
    [
        "print(name)", "def f(say=print): pass", "rich.print(name)", "Console()", "rich.console.Console(stderr=True)",
        "from rich import print", "from rich.markup import escape", "Text.from_markup(name)", "typer.echo(name)",
        "sys.stdout.write(name)", "console.print(name, markup=True)", "TextColumn('{task.description}')",
    ],
)  # fmt: skip
def test_a_module_that_prints_by_itself_is_found(code: str, tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text(code, encoding="utf-8")
    assert printing(path)


PROSE = sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")))


@pytest.mark.parametrize("path", PROSE, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_line_of_prose_is_over_120_columns(path: Path) -> None:
    inside, wide = False, []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.lstrip().startswith("```"):
            inside = not inside
        prose = not inside and not line.startswith(("|", "    ", "<", "!", "[!"))
        if prose and len(line) > 120:
            wide.append(f"{path.name}:{number}: {len(line)} columns")
    assert wide == []
