"""The error that the data room raises, and how its long operations report. Imports nothing slow."""

from collections.abc import Callable

from backbench.errors import UserError

Report = Callable[[str], None]  # receives one line of text
Progress = Callable[[int, int | None], None]  # receives the bytes done, and the total where it is known


class DataError(UserError):
    """A data set is missing, broken or inconsistent. The message says which, where, and what to do."""


def no_progress(done: int, total: int | None) -> None:
    """Show nothing."""
