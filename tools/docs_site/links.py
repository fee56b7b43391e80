"""The links of a finished site: each leads to a file, and to a heading of it. Needs the standard library only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote


def broken(site: Path) -> Iterator[str]:
    """Links of the pages below ``site`` that lead nowhere, and whatever a page would load from a host, a line each."""
    pages = {path.resolve(): _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        yield from (f"{name}: {address}: loaded from a host" for address in page.loaded)
        for link in page.links:
            target, _, anchor = link.partition("#")
            file = (path.parent / unquote(target.partition("?")[0])).resolve() if target else path
            if not file.is_file() or not file.is_relative_to(site.resolve()):
                yield f"{name}: {link}: no such file"
            # With "=" it is a state of the board's page.
            elif anchor and "=" not in anchor and file in pages and unquote(anchor) not in pages[file].names:
                yield f"{name}: {link}: no such heading"


class _Page(HTMLParser):
    """What a page links to in the site, what it loads from elsewhere, and the names that others may link to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key in ("id", "name") and value:
                self.names.add(value)
            elif key in ("href", "src") and value:
                if not re.match(r"[a-z]+:|//", value):
                    self.links.append(value)
                elif re.match(r"https?:|//", value) and (tag == "link" or key == "src"):
                    self.loaded.append(value)
