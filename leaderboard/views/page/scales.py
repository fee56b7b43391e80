"""Axes as numbers: from values to positions, where ticks go, and how numbers are written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NOTHING = "—"


@dataclass(frozen=True)
class Scale:
    """``low`` .. ``high`` in units of the data onto ``start`` .. ``end`` in units of the drawing."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Position of ``value``; what lies outside is drawn at the edge."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """About ``count`` round values in order, all of them on the axis."""
        return log_ticks(self.low, self.high, count) if self.log else ticks(self.low, self.high, count)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten within ``low`` .. ``high``, at most ``count`` + 2 of them."""
    raw = (high - low) / (count + 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, -math.floor(math.log10(step)))
    return [round(index * step, digits) for index in range(first, last + 1)]


def log_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Powers of ten, thinned to ``count``; with fewer than three of them 1, 2 and 5 times powers, or equal steps."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1,), (1, 2, 5)):
        found = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
        found = [value for value in found if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
        if len(found) >= (3 if factors == (1,) else 2):
            return found[:: math.ceil(len(found) / (count + 1))]
    return ticks(low, high, min(count, 3))


def span(values: Iterable[float], pad: float = 0.06) -> tuple[float, float]:
    """Smallest and largest of ``values`` with room of ``pad`` of the range at each end; never empty."""
    found = list(values)
    low, high = min(found), max(found)
    room = pad * (high - low) or max(abs(high) * 0.1, 0.5)
    return low - room, high + room


def log_span(values: Iterable[float], pad: float = 0.08) -> tuple[float, float]:
    """As ``span``, on a logarithmic axis. ``values`` are positive."""
    found = list(values)
    low, high = min(found), max(found)
    factor = (high / low) ** pad if high > low else 1.5
    return low / factor, high * factor


def axis(values: Iterable[float], start: float, end: float, *, log_from: float | None = None) -> Scale:
    """A scale that holds ``values``; logarithmic where all are positive and the largest is ``log_from`` times the
    smallest."""
    found = list(values)
    # Beyond the last bound a value stands for nothing at all, and every other one would be drawn at the edge.
    if log_from is not None and 0 < log_from * min(found) <= max(found) < 1e15 * min(found):
        return Scale(*log_span(found), start, end, log=True)
    return Scale(*span(found), start, end)


def number(value: float, digits: int = 3) -> str:
    """Short: ``1.2k``, ``3.5M``, ``0.004``; a minus is a minus sign."""
    if value == 0:
        return "0"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * (1 - 1e-9):
            return minus(f"{value / size:.{digits}g}") + letter
    return minus(f"{value:.{digits}g}")


def numbers(values: Sequence[float]) -> list[str]:
    """Each of ``values`` short, with as many digits as tell them apart."""
    written = [[number(value, digits) for value in values] for digits in range(3, 10)]
    return next((one for one in written if len(set(one)) == len(set(values))), written[-1])


def points(value: float | None) -> str:
    """A score, in points."""
    return NOTHING if value is None else minus(f"{value:.1f}")


def exact(value: float) -> str:
    """A count in full, anything else whole from a hundred on and to three digits below."""
    if value == int(value) and abs(value) < 1e15:
        return minus(f"{int(value):,}")
    return minus(f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}")


def minus(written: str) -> str:
    """``written`` with a minus sign for its hyphen, and no sign before a zero."""
    if written.startswith("-"):
        written = written[1:] if not written.strip("-0.") else "−" + written[1:]
    return written


def position(value: float) -> str:
    """A coordinate: a tenth of a pixel is enough, and short."""
    written = f"{value:.1f}".removesuffix(".0")
    return "0" if written == "-0" else written
