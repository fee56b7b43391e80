"""GitHub's Markdown as MkDocs reads it. Needs the standard library only."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator

LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
PICTURE = re.compile(r'<picture>\s*<source [^>]*srcset="([^"]+)">\s*<img alt="([^"]*)" src="([^"]+)">\s*</picture>')
OBJECT = re.compile(r"^<!-- api: ([\w.]+?)(\.\*)? -->$", re.MULTILINE)  # with ".*" all that __all__ names
MARKER = re.compile(r"(?:[-*+]|\d+[.)]) +")
CELLS, CODE = re.compile(r"^ *\|.*\|$", re.MULTILINE), re.compile(r"`[^`]+`")  # in which a bar needs no backslash
FENCE = re.compile(r"```|~~~")


def translated(
    text: str, here: str, target: Callable[[str], str | None], names: Callable[[str], Iterable[str]] = lambda _: ()
) -> str:
    """A page of the repository as MkDocs reads it.

    ``here`` is the page's folder, and ``target`` gives for a path in the repository the path or address that the site
    links to. None: the site has nothing there, so the words stay without a link. ``names`` lists a module's
    ``__all__``.
    """

    def link(match: re.Match[str]) -> str:
        words, (path, mark, anchor) = match[1], match[2].partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return match[0]
        found = target(posixpath.normpath(posixpath.join(here, path)))
        if found is None:
            return words if "`" in words else f"`{words}`"
        there = found if ":" in found else posixpath.relpath(found, here or ".")
        return f"[{words}]({there}{mark}{anchor})"

    def objects(match: re.Match[str]) -> str:
        found = [f"{match[1]}.{name}" for name in names(match[1])] if match[2] else [match[1]]
        return "\n\n".join(f"::: {name}" for name in found)

    text = CELLS.sub(lambda row: CODE.sub(lambda code: code[0].replace(r"\|", "|"), row[0]), text)
    text = PICTURE.sub(r"![\2](\3#only-light)\n![\2](\1#only-dark)", text)  # Material shows the one of the theme
    return "\n".join(_lists(OBJECT.sub(objects, LINK.sub(link, text)).split("\n")))


def _lists(lines: list[str]) -> Iterator[str]:
    """What belongs to an item of a list moves to a column that is a multiple of four, as Python-Markdown asks for."""
    columns: list[int] = []  # where the text of each open item begins
    before, fenced, loose = "", False, False
    for line in lines:
        text = line.lstrip(" ")
        column = len(line) - len(text)
        marker = None if fenced else MARKER.match(text)
        while text and columns and not fenced and column < columns[-1] and (marker or not before.strip()):
            columns.pop()
        base = columns[-1] if columns else 0
        if marker and column - base < 4:
            if before.strip() and (loose or (not columns and not before.startswith(" ") and not MARKER.match(before))):
                yield ""  # on GitHub a list or an item may follow a paragraph at once
            yield " " * 4 * len(columns) + text
            columns.append(column + len(marker[0]))
        elif text and columns and column >= base:
            yield " " * (4 * len(columns) + column - base) + text
        else:
            yield line
        loose = not text or (loose and not marker)
        fenced ^= FENCE.match(text) is not None
        before = line


def navigation(index: str, folder: str) -> dict[str, dict[str, str]]:
    """Section to the words and the path of each page, from the tables of an index that lies in ``folder``."""
    found = {}
    for section in re.split(r"^## ", index, flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        rows = re.findall(r"^\| \[([^\]]+)\]\(([^)#]+)\)", text, re.MULTILINE)
        found[title] = {
            words.replace("`", ""): posixpath.normpath(posixpath.join(folder, path)) for words, path in rows
        }
    return found
