"""The error of a user's mistake, and the hint that goes with a misspelt name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in what the user asked for. The message is one line: what, where, what to do."""


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown ``name``: the closest known one, then all of them."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    guess = f"; did you mean '{close[0]}'?" if close else ";"
    return f"{guess} known: {', '.join(names) if names else 'none'}"
