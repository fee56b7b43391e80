"""A user's mistake as one line: what, where, what to do."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in what the user asked for. The message is one line: what, where, what to do."""


def require(condition: bool, message: str) -> None:
    """Raise ``UserError`` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise UserError(message)


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown ``name``: the closest known one, then all of them."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    guess = f"; did you mean '{close[0]}'?" if close else ";"
    return f"{guess} known: {', '.join(names) if names else 'none'}"


def one_line(error: BaseException, most: int = 300) -> str:
    """What an exception says, on one line of at most ``most`` characters; its type where it says nothing."""
    said = getattr(error, "strerror", None) or str(error)
    return " ".join(str(said).split())[:most] or type(error).__name__


def first_line(error: BaseException, most: int = 160) -> str:
    """The first line of what an exception says: libraries add hints below it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:most]
