"""The error that the data room raises."""

from __future__ import annotations

from backbench.errors import UserError


class DataError(UserError):
    """A data set is missing, broken or inconsistent. The message says which, where, and what to do."""
