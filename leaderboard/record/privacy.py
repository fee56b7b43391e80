"""Takes what belongs to one machine out of text before it is published in a record."""

from __future__ import annotations

import re
from typing import Any

# An absolute path in running text: POSIX, "~", a drive letter or a local URI. "tokens/s", "N/A", "</b>", "a / b" and
# "https://host/page" are none: there the slash follows a word, a dot or another slash, or stands alone.
# What may not stand before any of them keeps the result of a cut from being cut again.
_START = r"(?<![\w./<~])(?:(?:file|sqlite):/{2,}|[A-Za-z]:[\\/](?![\\/])|~\w*/|/(?=[^\s/]))"
_PATH = re.compile(_START + r"""(?P<rest>[^\s'"`,;:()\[\]{}<>|]*)""")


def _shorten(match: re.Match[str]) -> str:
    parts = [part for part in re.split(r"[\\/]", match["rest"]) if part]
    # The last name alone says which file was meant; a home folder's own name is a user's name.
    if not parts or (len(parts) == 2 and parts[0] in {"home", "Users"}):
        return "..."
    return f".../{parts[-1]}"


def without_paths(value: Any) -> Any:
    """``value`` (JSON-like) with every absolute path in its strings cut to ``.../last-name``; idempotent."""
    if isinstance(value, str):
        # A cut can bring two characters together that look like a path anew ("a:" before a backslash).
        for _ in range(10):
            value = _PATH.sub(_shorten, value)
        return value
    if isinstance(value, dict):
        return {without_paths(key): without_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(item) for item in value]
    return value
