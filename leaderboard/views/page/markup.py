"""HTML and SVG from Python values. Everything that is not ``Html`` is escaped: no record can add markup."""

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from hashlib import sha256
from html import escape as _escape
from pathlib import Path
from typing import Any

from backbench import reading

_VOID = frozenset({"br", "input", "meta", "wbr", "link", "hr"})
_SHAPES = frozenset({"path", "line", "rect", "circle", "polyline", "polygon"})
# Documents must not contain control characters, and UTF-8 cannot encode lone surrogates.
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


class Html(str):
    """Text that is markup. Only this module makes it from text that is not."""

    __slots__ = ()


Child = str | int | float | None | Iterable[Any]
View = Mapping[str, Any]  # plain data of ``backbench.leaderboard.views.tables``: all of it, a section, row or record


@lru_cache(maxsize=8192)  # most are names of classes and attributes
def text(value: str) -> Html:
    """``value`` escaped, for use between tags and inside quoted attributes."""
    return Html(_escape(_UNFIT.sub("\ufffd", value), quote=True))


def join(*children: Child) -> Html:
    """``children`` in a row: strings are escaped, None is skipped, iterables are flattened."""
    parts: list[str] = []
    for child in children:
        if type(child) is Html:
            parts.append(child)
        elif isinstance(child, str | int | float):
            parts.append(text(str(child)))
        elif child is not None:
            parts.append(join(*child))
    return Html("".join(parts))


def el(tag: str, attrs: Mapping[str, object] | None = None, *children: Child) -> Html:
    """One element. Attributes that are None or False are skipped, True has no value, others are escaped."""
    head = tag
    for name, value in (attrs or {}).items():
        if value is True:
            head += f" {name}"
        elif value is not None and value is not False:
            head += f' {name}="{text(str(value))}"'
    if tag in _VOID:
        return Html(f"<{head}>")
    inside = join(*children)
    return Html(f"<{head}>{inside}</{tag}>" if inside or tag not in _SHAPES else f"<{head}/>")


def name(value: object) -> Html:
    """A name from a record, isolated: right-to-left marks in it do not reorder the text around it."""
    return el("bdi", None, str(value))


def breakable(value: str) -> Html:
    """A long name that may break after ``- = : . /``."""
    parts = re.split(r"(?<=[-=:./])(?=.)", value)
    return join([(el("wbr") if index else None, part) for index, part in enumerate(parts)])


def cite(value: str) -> Html:
    """A citation with its arXiv numbers as links. No other address becomes a link."""
    attrs = {"rel": "noopener noreferrer"}
    links = (el("a", {"href": f"https://arxiv.org/abs/{m[1]}", **attrs}, m[0]) for m in _ARXIV.finditer(value))
    before, *pieces = _ARXIV.split(value)  # the numbers alternate with what is between them
    return join(before, zip(links, pieces[1::2], strict=True))


def row_file(row: View) -> str:
    """``rows/<id>.html``. ``ValueError`` for an id that could leave the folder or be read as something else."""
    if not isinstance(row["id"], str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}", row["id"]):
        raise ValueError(f"row id {row['id']!r} is not a safe file name")
    return f"rows/{row['id']}.html"


def section_id(section: View) -> str:
    """The id of a section. ``ValueError`` when it has anything but letters, digits and dashes."""
    found = section["id"]
    if not isinstance(found, str) or not re.fullmatch(r"[A-Za-z0-9-]{1,199}", found):
        raise ValueError(f"section id {found!r} is not made of letters, digits and dashes")
    return found


def json_script(element_id: str, value: object) -> Html:
    """``value`` as JSON in a script element for data. Nothing in it can end the element."""
    content = json.dumps(value, sort_keys=True, allow_nan=False)  # ASCII: U+2028 and U+2029 are escaped as well
    for sign in "<>&":
        content = content.replace(sign, f"\\u{ord(sign):04x}")
    return Html(f'<script type="application/json" id="{text(element_id)}">{content}</script>')


def page(
    title: str, description: str, skip: str, around: tuple[Child, Child], main: Child, pictures: bool = False
) -> str:
    """A complete document. ``skip``: text of the link past the head; ``around``: what is above and below ``main``.

    Its content security policy allows only its own style and script, by their hashes, and with ``pictures`` those that
    are part of the page.
    """
    style, script = asset("page.css"), asset("page.js")
    hashes = [b64encode(sha256(content.encode()).digest()).decode() for content in (style, script)]
    own = "style-src 'sha256-{}'; script-src 'sha256-{}'".format(*hashes)
    images = "; img-src data:" if pictures else ""
    policy = f"default-src 'none'; {own}{images}; base-uri 'none'; form-action 'none'"
    head = (
        el("meta", {"charset": "utf-8"}),
        el("meta", {"http-equiv": "Content-Security-Policy", "content": policy}),
        el("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        el("meta", {"name": "referrer", "content": "no-referrer"}),
        el("meta", {"name": "description", "content": description}),
        el("title", None, title),
        Html(f"<style>{style}</style>"),
    )
    link = el("a", {"class": "skip", "href": "#main"}, skip)
    body = link, around[0], el("main", {"id": "main", "tabindex": "-1"}, main), around[1]
    # The script comes last: it starts when the page is complete.
    content = el("head", None, head), el("body", None, body, Html(f"<script>{script}</script>"))
    return f"<!DOCTYPE html>\n{el('html', {'lang': 'en'}, content)}\n"


@cache
def asset(file: str) -> str:
    """A file of this package."""
    return reading.text(Path(__file__).parent / file)
