"""Numbers as text: short in plots, longer in tables."""

from collections.abc import Sequence

NOTHING = "—"
UNKNOWN = "unknown"


def short(value: float, digits: int = 3) -> str:
    """``value`` to ``digits`` significant digits with a suffix: ``1.2k``, ``3.5M``, ``0.004``."""
    if value == 0:
        return "0"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * (1 - 1e-9):
            return minus(f"{value / size:.{digits}g}") + letter
    return minus(f"{value:.{digits}g}")


def tick_labels(values: Sequence[float]) -> list[str]:
    """``values`` as short as possible while they still differ from each other."""
    written = [[short(value, digits) for value in values] for digits in range(3, 10)]
    return next((one for one in written if len(set(one)) == len(set(values))), written[-1])


def score(value: float | None, digits: int = 1) -> str:
    """A normalised score, or a dash."""
    return NOTHING if value is None else minus(f"{value:.{digits}f}")


def exact(value: float) -> str:
    """A count in full. Other numbers have no decimals from 100 on, and three significant digits below."""
    if value == int(value) and abs(value) < 1e15:
        return minus(f"{int(value):,}")
    return minus(f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}")


def minus(written: str) -> str:
    """``written`` with a minus sign instead of a hyphen, and without a sign before zero."""
    if written.startswith("-"):
        written = written[1:] if not written.strip("-0.") else "−" + written[1:]
    return written


def coordinate(value: float) -> str:
    """An SVG coordinate, rounded to a tenth of a pixel to keep pages small."""
    written = f"{value:.1f}".removesuffix(".0")
    return "0" if written == "-0" else written
