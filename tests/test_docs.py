"""The pages are true: links resolve, examples run, generated parts are fresh, figures are the records'."""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest
from paths import ROOT

import backbench
from backbench.backbones import BACKBONES
from backbench.backbones.build import build
from backbench.backbones.check import check
from backbench.backbones.contract import Spec
from backbench.backbones.fast import state_bytes
from backbench.backbones.kernels import OPERATIONS, chosen

DOCS = ROOT / "docs"
KERNELS = (DOCS / "reference" / "backbones.md").read_text()
BACKBONES_PAGE = (DOCS / "reference" / "built-in-backbones.md").read_text()
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("examples/**/*.md"), *ROOT.glob(".github/**/*.md"))
    if path.is_file()
)
BUILT_IN = [name for name in BACKBONES.names() if BACKBONES.origin(name) == "built-in"]
FORBIDDEN = (
    "is gone on with", "stands apart", "stand apart", "who holds", "says of itself", "made on the spot",
    "numbered actions", "cut short", "comes to", "at hand",
)  # fmt: skip


def script(name: str) -> ModuleType:
    """A script of ``tools`` as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def without_code(text: str) -> str:
    """``text`` without fenced and indented blocks and without code in a line."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^ {4,}.*$", "", text, flags=re.MULTILINE)
    return re.sub(r"`[^`]*`", "", text)


@cache
def anchors(path: Path) -> frozenset[str]:
    """What headings of a page are called in links, as GitHub does it."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.*)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        kept = "".join(c for c in plain if c in " -_" or unicodedata.category(c)[0] in "LN")
        slug, number = kept.strip().replace(" ", "-"), 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return frozenset(found)


def broken_links(path: Path) -> Iterator[str]:
    """Links of a page to a file or a heading that is not there."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset|href)="([^"]+)"', text)
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = unquote(link).partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists():
            yield f"{path.name}: {link}: no such file"
        elif anchor and anchor not in anchors(target):
            yield f"{path.name}: {link}: no such heading; there are {', '.join(sorted(anchors(target)))}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_and_anchors_resolve(path: Path) -> None:
    assert list(broken_links(path)) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One `two`\n\n[a](#one-two) [b](#three) [c](gone.md) [d](https://example.org)\n")
    assert [line.split(": ")[1] for line in broken_links(page)] == ["#three", "gone.md"]


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text()
    for path in DOCS.rglob("*.md"):
        name = path.relative_to(DOCS).as_posix()
        assert name == "README.md" or f"({name})" in index, name


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_are_plain_english(path: Path) -> None:
    prose = " ".join(without_code(path.read_text(encoding="utf-8")).split()).lower()
    assert [words for words in FORBIDDEN if re.search(rf"\b{words}\b", prose)] == []


def test_pages_that_configuration_and_code_name_exist() -> None:
    missing = []
    for folder in ("backbones", "agents", "benchmarks", "leaderboard", "configs", "tools", "tests", "examples"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix not in (".py", ".yaml", ".yml") or "published" in path.parts:
                continue
            for page in re.findall(r"\bdocs/[\w/-]+\.(?:md|py|png|svg)", path.read_text()):
                if not (ROOT / page).exists():
                    missing.append(f"{path.relative_to(ROOT)}: {page}")
    assert missing == []


def paths_of_a_cell() -> Iterator[tuple[str, bool]]:
    """Each file or folder on the way of a cell, and whether it exists; short names are beside the one before."""
    way = (DOCS / "architecture.md").read_text().partition("## The way of a cell")[2].partition("\n## ")[0]
    last = ROOT
    for name in re.findall(r"`([\w/]+(?:\.py|/))`", way):
        found = next(
            (path for path in (ROOT / name, last.parent / name, last.parents[1] / name) if path.exists()), None
        )
        last = found or last
        yield name, found is not None


def test_the_way_of_a_cell_names_files_that_exist() -> None:
    assert [name for name, exists in paths_of_a_cell() if not exists] == []


@pytest.mark.parametrize("name", BUILT_IN)
def test_sizes_of_backbones_are_listed(name: str) -> None:
    model = build(name, None, Spec(d_model=128, n_layers=3))
    parameters = sum(p.numel() for p in model.parameters())
    assert f"| `{name}` | {parameters:,} | {model.flops(60):,.0f} | {state_bytes(model):,} |\n" in BACKBONES_PAGE


def test_every_option_of_gloma_has_a_reason() -> None:
    page = (DOCS / "reference" / "gloma.md").read_text()
    for field in dataclasses.fields(BACKBONES.get("gloma").Options):
        assert f"`{field.name}`" in page


def test_every_kernel_is_listed() -> None:
    for operation in OPERATIONS.values():
        row = next(line for line in KERNELS.splitlines() if line.startswith(f"| `{operation.name}`"))
        assert all(f"`{name}`" in row for name in operation.table)
        assert row.endswith(f"| `{chosen(operation.name)}` |")


def test_the_tables_of_settings_presets_and_options_are_what_the_code_says() -> None:
    tool = script("make_configuration")
    for path in tool.PAGES:
        text = path.read_text(encoding="utf-8")
        assert text == tool.written(text), "run: PYTHONPATH=src python tools/make_configuration.py"


def test_every_group_of_settings_preset_and_backbone_with_options_has_a_table() -> None:
    tool = script("make_configuration")
    there = {(kind, name) for path in tool.PAGES for _, kind, name, _ in tool.TABLE.findall(path.read_text("utf-8"))}
    presets = {path.stem for path in (ROOT / "configs" / "preset").rglob("*.yaml")}
    with_options = {name for name in BUILT_IN if dataclasses.fields(BACKBONES.get(name).Options)}
    assert {name for kind, name in there if kind == "settings"} == set(tool.GROUPS)
    assert {name for kind, name in there if kind == "preset"} == presets
    assert {name for kind, name in there if kind == "options"} == with_options


def test_a_changed_default_or_comment_changes_the_page() -> None:
    said = script("field_comments").field_comments(
        "class A:\n    # Above,\n    # in two lines.\n    a: int = 1\n    b: str = '#'  # beside\n    c: int = 0\n"
    )
    assert said == {"a": "Above, in two lines.", "b": "beside"}
    page = "<!-- table: settings eval -->\nstale\n<!-- end of the table -->\n"
    written = script("make_configuration").written(page)
    assert "| `eval.seed` | int | 1000 | of the evaluation's environments |\n" in written
    assert "stale" not in written


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    written = (DOCS / "reference" / "commands.md").read_text()
    assert written == script("make_commands").page(), "run: PYTHONPATH=src python tools/make_commands.py"


def test_the_pictures_are_what_the_records_give() -> None:
    images = script("make_images").images()
    assert sorted(images) == ["board-dark.svg", "board-light.svg", "memory-dark.svg", "memory-light.svg"]
    for name, text in images.items():
        written = (DOCS / "images" / name).read_text()
        assert written == text, "run: PYTHONPATH=src python tools/make_images.py"


def test_the_pictures_need_no_torch() -> None:
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(ROOT / "tools" / "make_images.py")], check=True, cwd=ROOT)


def python_block(page: Path, containing: str) -> str:
    """The one block of Python on a page with these words."""
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (block,) = [block for block in blocks if containing in block]
    return str(block)


@pytest.mark.parametrize(("page", "name"), [("README.md", "EMA"), ("docs/tutorial.md", "Average")])
def test_the_mixer_on_the_page_keeps_the_contract(
    page: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = python_block(ROOT / page, f"class {name}(Mixer)")
    module = f"mixer_of_{name.lower()}"
    (tmp_path / f"{module}.py").write_text(block)
    monkeypatch.syspath_prepend(str(tmp_path))
    results = check(f"{module}:{name}")
    assert [f"{result.name}: {result.detail}" for result in results if not result.passed] == []
    assert f"bench check my_mixer:{name}" in (ROOT / page).read_text()


def test_the_script_of_the_tutorial_trains_plays_and_plots(hopper_store: Path, tmp_path: Path) -> None:
    (tmp_path / "play.py").write_text(python_block(DOCS / "tutorial.md", "backbench.load_agent"), encoding="utf-8")
    done = subprocess.run([sys.executable, "play.py"], cwd=tmp_path, capture_output=True, text=True, timeout=400)
    assert (done.returncode, done.stderr) == (0, "")
    table = r" *d4rl +gloma\n *hopper-medium +[\d.]+\n *seeds +1\n"
    assert re.fullmatch(rf"{table}return of the episode: \d+\n", done.stdout)
    assert (tmp_path / "episode.png").read_bytes().startswith(b"\x89PNG")


def test_every_name_of_the_package_is_on_the_page_of_the_python_api() -> None:
    page = (DOCS / "reference" / "python.md").read_text()
    assert [name for name in backbench.__all__ if f"`{name}" not in page and f"backbench.{name}" not in page] == []


def test_the_excerpt_in_the_readme_is_what_make_bench_prints() -> None:
    """The committed records of ``gloma`` with seed 0 are the cells of ``make bench``."""
    from backbench import terminal
    from backbench.leaderboard.board.board import build_board
    from backbench.leaderboard.record.files import load_records
    from backbench.leaderboard.views.text import to_rich

    records, errors = load_records(ROOT / "leaderboard" / "published" / "records")
    assert errors == []
    ours = [record for record in records if record.identity.suite == "d4rl"]
    cells = [record for record in ours if record.identity.backbone == "gloma" and record.identity.seed == 0]
    console = terminal.console(file=io.StringIO(), width=100)
    console.print(to_rich(build_board(cells), 100, beside=build_board(records)))
    printed = [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    block = re.search(r"^```\n(1\. d4rl.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert block
    assert [line for line in block[1].splitlines() if line not in printed] == []


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_the_table_of_the_reading_is_what_the_records_make() -> None:
    pages = (ROOT / "leaderboard" / "published" / "pages" / "board.md").read_text()
    board = re.split(r"^### \d+\. d4rl,", pages, flags=re.MULTILINE)[1].splitlines()
    columns = cells_of(next(line for line in board if line.startswith("| task |")))
    gym = (DOCS / "board.md").read_text().partition("\n## Gym\n")[2]
    table = [line for line in gym.splitlines() if line.startswith("|") and "---" not in line]
    header, *reading = map(cells_of, table)
    assert len(reading) == 4
    for name, *values in reading:
        ours = next(cells_of(line) for line in board if line.startswith(f"| {name} |"))  # of the first table
        assert values == [ours[columns.index(column)] for column in header[1:]], name
