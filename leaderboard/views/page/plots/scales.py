"""Axes: from values to coordinates, and where ticks go."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from backbench.leaderboard.views.page.markup import View


@dataclass(frozen=True)
class Scale:
    """Maps ``low`` .. ``high`` in units of the data to ``start`` .. ``end`` in units of the drawing."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Coordinate of ``value``, clipped to the axis."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """About ``count`` round values on the axis, ascending."""
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
    """Powers of ten, about ``count`` of them; where fewer than three fit, 1, 2 and 5 times powers, or equal steps."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1,), (1, 2, 5)):
        found = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
        found = [value for value in found if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
        if len(found) >= (3 if factors == (1,) else 2):
            return found[:: math.ceil(len(found) / (count + 1))]
    return ticks(low, high, min(count, 3))


def span(values: Iterable[float], pad: float = 0.06) -> tuple[float, float]:
    """Smallest and largest of ``values``, widened by ``pad`` of the range at each end; never empty."""
    found = list(values)
    low, high = min(found), max(found)
    room = pad * (high - low) or max(abs(high) * 0.1, 0.5)
    return low - room, high + room


def axis(values: Iterable[float], start: float, end: float, *, log_from: float | None = None) -> Scale:
    """A scale that holds ``values``: logarithmic where all are positive and the largest is at least ``log_from`` times
    the smallest."""
    found = list(values)
    # Beyond 1e15 the smallest value stands for "nothing", and a logarithmic axis would squeeze all others at one end.
    if log_from is not None and 0 < log_from * min(found) <= max(found) < 1e15 * min(found):
        low, high = min(found), max(found)
        factor = (high / low) ** 0.08 if high > low else 1.5
        return Scale(low / factor, high * factor, start, end, log=True)
    return Scale(*span(found), start, end)


def interval_ends(estimates: Iterable[View]) -> list[float]:
    """Values and ends of intervals, for an axis that holds them all."""
    return [one[end] for one in estimates for end in ("value", "low", "high") if one[end] is not None]
