"""Compare our backbones with other packages' implementations: outputs and gradients with equal weights.

Run ``PYTHONPATH=src python tools/compare_references.py [BACKBONE ...] [--markdown]``. The inputs are two sequences of
133 tokens. An error is the largest of the output and of the gradients of inputs and weights, relative to the largest
entry of each tensor. In the column float64, packages that cast to single precision are made to compute in double.
A package that is not installed is one line with the command that installs it, into a folder of its own.
Exits 1 if an error is larger than the tolerance or a comparison raises, 2 if a name is wrong.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Sequence

import torch
from references.comparison import Comparison, Package
from references.fla_layers import FLA_LAYERS
from references.layers import LAYERS
from references.recurrences import RECURRENCES

from backbench.backbones import BACKBONES
from backbench.errors import UserError, one_line

COMPARISONS = sorted((*LAYERS, *FLA_LAYERS, *RECURRENCES), key=lambda one: one.backbone)
COMPARED = {one.backbone for one in COMPARISONS}
ALLOWED = 1e-4  # error in float32
FOLDER = "build/references"
HEADINGS = ("backbone", "compared with", "class or function", "what", "float64", "float32")
Row = Sequence[str]


def row(one: Comparison) -> tuple[Row, bool]:
    """The cells of a comparison, and whether it is within its tolerances."""
    cells = [one.backbone, one.package.installed or "", one.name, one.part]
    try:
        errors = {dtype: one.error(dtype) for dtype in (torch.float64, torch.float32)}
    except Exception as error:  # whatever a package raises is the result of its row
        return [*cells, f"{type(error).__name__}: {one_line(error, 80)}", ""], False
    right = errors[torch.float64] <= one.allowed and errors[torch.float32] <= ALLOWED
    return [*cells, *(f"{error:.1e}{'' if right else ' WRONG'}" for error in errors.values())], right


def table(rows: Sequence[Row], markdown: bool = False) -> str:
    """The rows below their headings, in columns or as Markdown."""
    if markdown:
        lines = [HEADINGS, ["---"] * 4 + ["---:"] * 2]
        lines += [[f"`{cells[0]}`", cells[1], f"`{cells[2]}`", *cells[3:]] for cells in rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    widths = [max(len(cells[i]) for cells in (HEADINGS, *rows)) for i in range(len(HEADINGS))]
    return "\n".join("  ".join(map(str.ljust, cells, widths)).rstrip() for cells in (HEADINGS, *rows))


def missing(package: Package) -> str:
    """What to do about a package that is not installed."""
    backbones = ", ".join(one.backbone for one in COMPARISONS if one.package == package)
    command = f"pip install --no-deps --upgrade --target {FOLDER} {package.requirements}"
    return f"{package.distribution} is not installed (for {backbones}): {command}"


def notes(chosen: Sequence[Comparison], names: Sequence[str]) -> list[str]:
    """What was not compared, and why."""
    absent = dict.fromkeys(one.package for one in chosen if not one.package.installed)
    lines = [missing(package) for package in absent]
    if absent:
        lines.append(f"then: PYTHONPATH=src:{FOLDER} python tools/compare_references.py")
    others = [name for name in names if name not in COMPARED]
    if others:
        lines.append(f"no other package's implementation: {', '.join(others)}; the tests compare with equations")
    return lines


def main(words: Sequence[str] | None = None) -> int:
    """Print the table and the notes; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("backbone", nargs="*", help="names; default: all")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    given = parser.parse_args(words)
    try:
        names = [name for name in given.backbone if BACKBONES.get(name)] or BACKBONES.names()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    chosen = [one for one in COMPARISONS if one.backbone in names]
    found = [row(one) for one in chosen if one.package.installed]
    if found:
        print(table([cells for cells, _ in found], given.markdown))
    print("\n".join(["", *notes(chosen, names)]))
    return 0 if all(right for _, right in found) else 1


def quiet() -> None:
    """Packages say that their fast kernels are missing, which is as it should be. Nothing is looked up in a network."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


if __name__ == "__main__":
    quiet()
    sys.exit(main())
