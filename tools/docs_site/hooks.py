"""MkDocs' hooks (``mkdocs.yml``): the site has the pages as GitHub shows them.

Every file keeps its path in the repository as its name, so relative links mean what they mean on GitHub. In the site
the board lies at the root and everything else in ``docs/``. The navigation is the index, docs/README.md.
"""

from __future__ import annotations

import ast
import posixpath
import re
import tomllib
from functools import cache
from logging import getLogger
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from docs_site.links import broken
from docs_site.markdown import navigation, translated

ROOT = Path(__file__).resolve().parents[2]
INDEX, HOME, BOARD = "docs/README.md", "README.md", "leaderboard/published/pages/"
PAGES = {HOME: "docs/index.html", INDEX: "docs/contents.html"}  # others keep their names
OWN = ("assets/iframe-worker.js", "assets/site.css")  # beside this file; mkdocs.yml names them
log = getLogger("mkdocs.hooks.docs")


def on_config(config: Any) -> Any:
    """The navigation, from the index. Reports of studies join their section."""
    sections = navigation((ROOT / INDEX).read_text(encoding="utf-8"), "docs")
    for path in sorted((ROOT / BOARD / "studies").glob("*.html")):
        sections["Studies"][f"Report: {path.stem}"] = f"{BOARD}studies/{path.name}"
    sections["Project"]["All pages"] = INDEX
    items = [{title: [{words: _site(path)} for words, path in pages.items()]} for title, pages in sections.items()]
    config.nav = [{"Home": HOME}, {"Tutorial": "docs/tutorial.md"}, *items]
    config.theme.static_templates.discard("404.html")  # its links would begin at the host's root
    return config


def on_files(files: Files, config: Any) -> Files:
    """The theme's files, and the repository's pages, pictures and board."""
    known = Files([file for file in files if file.src_dir != config.docs_dir])
    for path in sorted([*ROOT.glob("*.md"), *(path for path in (ROOT / "docs").rglob("*") if path.is_file())]):
        name = path.relative_to(ROOT).as_posix()
        file = File(name, str(ROOT), config.site_dir, use_directory_urls=False)
        file.dest_uri = PAGES.get(name) or f"docs/{file.dest_uri.removeprefix('docs/')}"
        known.append(file)
    for path in sorted(path for path in (ROOT / BOARD).rglob("*") if path.is_file()):
        name = path.relative_to(ROOT).as_posix()
        if path.suffix == ".html":
            file = File.generated(config, name, content=_relinked(path.read_text(encoding="utf-8"), name, known))
        else:  # without its suffix MkDocs copies board.md as it is
            file = File.generated(config, name.removesuffix(".md"), abs_src_path=str(path))
        file.dest_uri = name.removeprefix(BOARD)
        known.append(file)
    for name in OWN:
        text = Path(__file__).with_name(posixpath.basename(name)).read_text(encoding="utf-8")
        known.append(File.generated(config, name, content=text))
    return known


def on_page_markdown(markdown: str, page: Any, files: Files, **kwargs: Any) -> str:
    """The page in MkDocs' Markdown. A link to another file of the repository leads there, if it has an address."""

    def target(name: str) -> str | None:
        there = (ROOT / name).exists() and files.get_file_from_path(_site(name)) is None
        return _repository(name) if there else _site(name)  # MkDocs warns of a file that is missing

    if page.parent is None:
        page.meta["hide"] = ["navigation"]  # a list of itself alone
    return translated(markdown, posixpath.dirname(page.file.src_uri), target, _names)


def on_post_build(config: Any) -> None:
    """Warn of what is wrong in the finished site: MkDocs looks into Markdown only. Warnings fail the build."""
    for line in broken(Path(config.site_dir)):
        log.warning(line)


def _site(name: str) -> str:
    """GitHub shows the board as Markdown, and the site as HTML."""
    return f"{BOARD}index.html" if name == f"{BOARD}board.md" else name


def _relinked(text: str, name: str, known: Files) -> str:
    """A committed page of the board, whose links to the repository's Markdown lead to the site's pages."""

    def link(match: re.Match[str]) -> str:
        file = known.get_file_from_path(posixpath.normpath(posixpath.join(posixpath.dirname(name), match[1])))
        if file is None:
            return match[0]
        here = posixpath.dirname(name.removeprefix(BOARD)) or "."
        return f'href="{posixpath.relpath(file.dest_uri, here)}{match[2] or ""}"'

    return re.sub(r'href="([^":#]+\.md)(#[^"]*)?"', link, text)


def _names(module: str) -> list[str]:
    """``__all__`` of a package, read without importing it."""
    text = (ROOT / "src" / module.replace(".", "/") / "__init__.py").read_text(encoding="utf-8")
    lists = [node for node in ast.parse(text).body if isinstance(node, ast.Assign) and "__all__" in ast.unparse(node)]
    return [name for node in lists for name in ast.literal_eval(node.value)]


def _repository(name: str) -> str | None:
    address = _address()
    return f"{address.rstrip('/')}/blob/HEAD/{name}" if address else None


@cache
def _address() -> str | None:
    """The repository's address, if pyproject.toml names one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    address: str | None = project.get("urls", {}).get("Repository")
    return address
