"""A user's mistake as one line: what, where, what to do."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in what the user asked for. The message is one line: what, where, what to do."""


def require(condition: bool, message: str) -> None:
    """Raise ``UserError`` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise UserError(message)


MANY = 120  # names that a message may list


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown ``name``: the closest known one, then all of them."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    guess = f"; did you mean '{close[0]}'?" if close else ";"
    shown = names if len(names) <= MANY else [*names[:MANY], "…"]
    return f"{guess} known: {', '.join(shown) if shown else 'none'}"


def one_line(error: BaseException, most: int = 300) -> str:
    """What an exception says, on one line of about ``most`` characters; its type where it says nothing.

    A long text loses its middle: the start says what is wrong, and the end what to do.
    """
    said = " ".join(str(getattr(error, "strerror", None) or error).split())
    if len(said) > most:
        said = f"{said[: most // 2].rstrip()} … {said[-(most // 2) :].lstrip()}"
    return said or type(error).__name__


def first_line(error: BaseException, most: int = 160) -> str:
    """The first line of what an exception says: libraries add hints below it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:most]
