"""What MkDocs does differently for this repository (``mkdocs.yml``): the site has the pages as GitHub shows them.

Every file keeps its path in the repository as its name, so relative links are what they are on GitHub. In the site
the board lies at the root and everything else in ``docs/``. The navigation is the index, docs/README.md.
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from logging import getLogger
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
INDEX, HOME, BOARD = "docs/README.md", "README.md", "leaderboard/published/pages/"
PAGES = {HOME: "docs/index.html", INDEX: "docs/contents.html"}  # other than by their names
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
PICTURE = re.compile(r'<picture>\s*<source [^>]*dark[^>]*srcset="([^"]+)">\s*<img alt="([^"]*)" src="([^"]+)">\s*</picture>')
OBJECT = re.compile(r"^<!-- api: ([\w.]+) -->$", re.MULTILINE)
log = getLogger("mkdocs.hooks.docs")


def on_config(config: Any) -> Any:
    """The navigation: sections and tables of the index."""
    config.nav = [{"Home": HOME}, {"Tutorial": "docs/tutorial.md"}]
    for section in (ROOT / INDEX).read_text(encoding="utf-8").split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        rows = re.findall(r"^\| \[([^\]]+)\]\(([^)#]+)\)", text, re.MULTILINE)
        entries = [{words: _site_name(posixpath.normpath(f"docs/{path}"))} for words, path in rows]
        if title == "Studies":
            reports = sorted((ROOT / BOARD / "studies").glob("*.html"))
            entries += [{f"Report: {path.stem}": f"{BOARD}studies/{path.name}"} for path in reports]
        config.nav.append({title: entries})
    config.nav[-1][title].append({"All pages": INDEX})
    return config


def on_files(files: Files, config: Any) -> Files:
    """The theme's files, and the repository's pages, pictures and board."""
    kept = [file for file in files if file.src_dir != config.docs_dir]
    paths = [*ROOT.glob("*.md"), *(path for path in (ROOT / "docs").rglob("*") if path.is_file())]
    for path in sorted(paths):
        name = path.relative_to(ROOT).as_posix()
        file = File(name, str(ROOT), config.site_dir, use_directory_urls=False)
        file.dest_uri = PAGES.get(name) or f"docs/{file.dest_uri.removeprefix('docs/')}"
        kept.append(file)
    known = Files(kept)
    for path in sorted(path for path in (ROOT / BOARD).rglob("*") if path.is_file()):
        name = path.relative_to(ROOT).as_posix()
        dest, text = name.removeprefix(BOARD), path.read_text(encoding="utf-8")
        if path.suffix == ".html":
            text = _board_page(text, name, dest, known)
        file = File.generated(config, name.removesuffix(".md"), content=text)  # a page in Markdown stays as it is
        file.dest_uri = dest
        known.append(file)
    return known


def on_page_markdown(markdown: str, page: Any, files: Files, **kwargs: Any) -> str:
    """GitHub's Markdown to MkDocs': pictures for both themes, links to files that are no pages, objects of the API."""
    here = posixpath.dirname(page.file.src_uri)

    def link(match: re.Match[str]) -> str:
        words, target = match[1], match[2]
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        path, _, anchor = target.partition("#")
        name = posixpath.normpath(posixpath.join(here, path))
        site_name = _site_name(name)
        if site_name != name:
            return f"[{words}]({posixpath.relpath(site_name, here)})"
        if files.get_file_from_path(name) or not (ROOT / name).exists():  # MkDocs reports the latter
            return match[0]
        repository = _repository()
        return f"[{words}]({repository}/blob/main/{name})" if repository else words if "`" in words else f"`{words}`"

    markdown = PICTURE.sub(r"![\2](\3#only-light)\n![\2](\1#only-dark)", markdown)
    return OBJECT.sub(r"::: \1", LINK.sub(link, markdown))


def on_post_build(config: Any) -> None:
    """Warn of each link to a file, a picture or a heading that the finished site does not have."""
    for line in broken(Path(config.site_dir)):
        log.warning(line)


def broken(site: Path) -> Iterator[str]:
    """Local references of the pages below ``site`` that lead nowhere, a line each."""
    pages = {path.resolve(): _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        for reference in page.references:
            target, _, anchor = unquote(reference).partition("#")
            file = (path.parent / target.partition("?")[0]).resolve() if target else path
            if not file.is_file():
                yield f"{path.relative_to(site.resolve())}: {reference}: no such file"
            elif anchor and "=" not in anchor and file in pages and anchor not in pages[file].names:  # "=": a state of the board
                yield f"{path.relative_to(site.resolve())}: {reference}: no such heading"


class _Page(HTMLParser):
    """Local references of a page, and the names that others may refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key in ("href", "src") and value and not re.match(r"[a-z]+:|//|/", value):
                self.references.append(value)
            elif key in ("id", "name") and value:
                self.names.add(value)


def _site_name(name: str) -> str:
    """The board's tables in Markdown, which GitHub shows, are the board's page in the site."""
    return f"{BOARD}index.html" if name == f"{BOARD}board.md" else name


def _board_page(text: str, name: str, dest: str, known: Files) -> str:
    """A committed page of the board, with its links to pages in Markdown as links to the site's."""

    def link(match: re.Match[str]) -> str:
        file = known.get_file_from_path(posixpath.normpath(posixpath.join(posixpath.dirname(name), match[1])))
        if file is None:
            return match[0]
        return f'href="{posixpath.relpath(file.dest_uri, posixpath.dirname(dest) or ".")}{match[2] or ""}"'

    return re.sub(r'href="([^":#]+\.md)(#[^"]*)?"', link, text)


def _repository() -> str | None:
    """The repository's address, if pyproject.toml names one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project.get("urls", {}).get("Repository")
