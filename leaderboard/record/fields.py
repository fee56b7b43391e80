"""Types of a record's fields: the limits that each value must keep, and no absolute paths in text."""

import json
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

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
        if "/" not in value and "\\" not in value:  # most text, and every path has one
            return value
        # A cut can bring two characters together that look like a path anew ("a:" before a backslash).
        for _ in range(10):
            before, value = value, _PATH.sub(_shorten, value)
            if value == before:
                break
        return value
    if isinstance(value, dict):
        return {without_paths(key): without_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(item) for item in value]
    return value


def _mapping_without_paths(value: dict[str, Any]) -> Any:
    text = json.dumps(value)  # most mappings have no path, and this looks at all of their text at once
    return without_paths(value) if "/" in text or "\\" in text else value


# Far beyond any real value, and far below where sums and squares overflow.
MOST, MOST_COUNTED = 1e12, 10**15
Count = Annotated[int, Field(ge=0, le=MOST_COUNTED)]
Positive = Annotated[int, Field(ge=1, le=MOST_COUNTED)]
Amount = Annotated[float, Field(ge=0, le=MOST)]
Seed = Annotated[int, Field(ge=0, lt=2**64)]
Flops = Annotated[float, Field(ge=0, le=MOST_COUNTED)]
Value = Annotated[float, Field(ge=-MOST, le=MOST)]
Loss = Annotated[float, Field(ge=-3.5e38, le=3.5e38)]  # what float32 holds: training may recover from there
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1, pattern=r"^[^\s/\\](.*\S)?$")]
# Free text and free mappings lose absolute paths when a record is built: a published record names no user's folders.
Text = Annotated[str, AfterValidator(without_paths)]
Mapping = Annotated[dict[str, JsonValue], AfterValidator(_mapping_without_paths)]


class Part(BaseModel):
    """Base of every part of a record. It refuses unknown fields, NaN, infinities and later changes."""

    # Descriptions are given to Field: reading docstrings of attributes would take a third of the time of the import.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


def close(value: float, expected: float, scale: float) -> bool:
    """Equal up to a mean taken in another order in float64. Means in float32 (1e-7 relative) pass as well."""
    return abs(value - expected) <= 1e-6 * max(1.0, scale)
