"""The words ``key=value`` of a command, before and after Hydra reads them: what is wrong with one, in plain words."""

import itertools
import math
import re
from collections.abc import Sequence
from typing import Any, get_type_hints

from backbench.errors import UserError
from backbench.text import plain

FLAGS = {"backbone": "--backbone", "suite": "--suite", "preset": "--preset", "seed": "--seeds", "task": "--task"}
LONGEST, DEEPEST, MOST_DIGITS = 2000, 8, 40
_WANTED = {
    int: "a whole number", float: "a number", bool: "true or false", str: "a word",
    tuple[float, ...]: "a list of numbers such as [1,2]",
    tuple[float, float]: "a list of two numbers such as [0.9,0.95]",
}  # fmt: skip


def short(text: str) -> str:
    """An override for a message."""
    line = plain(text)
    return line if len(line) <= 80 else f"{line[:60]}… ({len(text):,} characters)"


def check(overrides: Sequence[str]) -> None:
    """Refuse what would be read as something else than a value, or is too large to read.

    Raises:
        UserError: one line for the first that is wrong.
    """
    keys: set[str] = set()
    for text in overrides:
        said, (key, sign, value) = short(text), text.partition("=")
        if "${" in text or "???" in text:
            raise UserError(f"override '{said}': write the value itself; references to other values are not read")
        if key != key.strip() or (sign and value != value.strip()):
            tight = short(f"{key.strip()}={value.strip()}")
            raise UserError(f"override '{said}': write it without spaces: {tight}")
        deep = max(itertools.accumulate((char in "[{(") - (char in "]})") for char in text), default=0)
        if len(text) > LONGEST or deep > DEEPEST or re.search(rf"\d{{{MOST_DIGITS}}}", text):
            raise UserError(f"override '{said}': it is too long or too deeply nested; give a shorter value")
        if key in keys - {"match"}:  # ``match`` has its own message
            raise UserError(f"override '{said}': {key} is given twice; give it once, with commas for a grid")
        keys.add(key)


def choices(overrides: Sequence[str], most: int) -> list[list[str]]:
    """The values of each override, as overrides of one value; ``most`` and one more are enough to see that it is many.

    Raises:
        UserError: one cannot be read, or needs a flag.
    """
    if not overrides:
        return []
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    found: list[list[str]] = []
    for text in overrides:
        try:
            (parsed,) = OverridesParser.create().parse_overrides([text])
            key = parsed.get_key_element()
            if key in FLAGS:
                raise UserError(f"override '{text}': use {FLAGS[key]} for it")
            if not parsed.is_sweep_override():
                found.append([text])
                continue
            values = itertools.islice(parsed.sweep_string_iterator(), most + 1)
            found.append([f"{key}={value}" for value in values])
        except (HydraException, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"override '{short(text)}': it cannot be read; write key=value{_quoted(text)}") from error
    return found


def interval(text: str) -> tuple[str, float, float, bool] | None:
    """Key, least and greatest value of ``key=interval(a,b)``, and whether it is logarithmic:
    ``key=tag(log,interval(a,b))``. None for another override. UserError: an interval that is none."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        (parsed,) = OverridesParser.create().parse_overrides([text])
    except HydraException:  # ``choices`` says what is wrong
        return None
    if not parsed.is_interval_sweep():
        return None
    value: Any = parsed.value()
    key, log, low, high = parsed.get_key_element(), "log" in value.tags, value.start, value.end
    numbers = all(isinstance(one, int | float) and math.isfinite(one) for one in (low, high))
    if not numbers or low >= high or (log and low <= 0):
        positive = ", both above 0" if log else ""
        raise UserError(f"override '{short(text)}': give the lower and the higher end as numbers{positive}")
    return key, float(low), float(high), log


def _quoted(text: str) -> str:
    key, _, value = text.partition("=")
    odd = re.sub(r"['\"\\\s]|[^\x20-\x7e]", "", value) != value or not re.fullmatch(r"[\w.,+-]*", value)
    return f", with quotes around text with other signs: \"{key}='…'\"" if value and odd else ""


def refused(error: Exception, overrides: Sequence[str], groups: dict[str, type]) -> UserError:
    """What Hydra's refusal of ``overrides`` means: which one has a value of the wrong kind, and which kind is right."""
    cause = error.__cause__ or error
    full: Any = getattr(cause, "full_key", None)
    wrong = next((text for text in overrides if full and text.startswith(f"{full}=")), " ".join(overrides))
    group, _, name = wrong.partition("=")[0].partition(".")
    hint: Any = get_type_hints(groups[group]).get(name.partition(".")[0]) if group in groups else None
    value = short(wrong.partition("=")[2])
    return UserError(f"override '{short(wrong)}': '{value}' is not {_WANTED.get(hint, 'a value that fits')}")


def require_numbers(values: dict[str, Any], group: str, kind: type) -> None:
    """UserError if a list of a group of settings has something else than numbers in it."""
    for name, hint in get_type_hints(kind).items():
        value = values.get(name)
        numbers = isinstance(value, list) and all(isinstance(one, int | float) for one in value)
        if hint in _WANTED and isinstance(value, list) and not numbers:
            raise UserError(f"override '{short(f'{group}.{name}={value}')}': give {_WANTED[hint]}")
