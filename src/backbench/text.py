"""Text from users and files, made safe for where it is shown. Every view uses these functions and no others."""

from __future__ import annotations


def plain(text: str) -> str:
    """``text`` on one line, without characters that a terminal obeys instead of showing them."""
    line = " ".join(text.split())
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)
