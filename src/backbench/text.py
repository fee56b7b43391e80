"""Text from users and files, made safe for where it is shown. Every view uses these functions and no others."""

import os
from pathlib import Path
from urllib.parse import quote, unquote

# MLflow makes the folder of a plain ``sqlite:`` address without unquoting it. With the driver's name, it does not.
SQLITE = "sqlite+pysqlite"


def visible(text: str, keep: str = "") -> str:
    """``text`` with what a terminal obeys instead of showing it (escape codes, direction marks, line ends) escaped.

    ``keep``: characters that stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode() for char in text
    )


def plain(text: str) -> str:
    """``text`` on one line, without characters that a terminal obeys instead of showing them."""
    return visible(" ".join(text.split()))


def markdown(text: str) -> str:
    """``text`` as Markdown that shows it as it is, also in a table's cell."""
    for sign, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, entity)
    return "".join("\\" + letter if letter in "\\`*_[]|#" else letter for letter in text)


def path_url(path: Path, scheme: str = "file") -> str:
    """The address of an absolute path, such as ``file:///a%20b``.

    A database's (``scheme`` is SQLITE) has one slash more. Every character that means something in an address is quoted, ``%`` too.
    """
    return f"{scheme}://{'/' if scheme == SQLITE else ''}{quote(os.fsencode(path.absolute()))}"


def url_path(address: str) -> Path:
    """The path in an address of a file or of an SQLite database."""
    scheme, _, rest = address.partition("://")
    return Path(unquote(rest.partition("?")[0].removeprefix("/" if scheme.startswith("sqlite") else ""), errors="surrogateescape"))


def count(number: int, what: str) -> str:
    """``1 layer``, ``2 layers``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
