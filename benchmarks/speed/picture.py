"""A picture of the report: training throughput and time of a decision over the context."""

import textwrap
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from backbench.benchmarks.speed.report import Report, middle
from backbench.benchmarks.speed.tables import machine

FILE = "speed.png"
# Okabe and Ito's colours, which differ for all common kinds of colour vision; markers differ as well.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
Styles: TypeAlias = dict[str, dict[str, Any]]  # model to matplotlib's style
LINES = {"window": "-", "recurrent": ":"}


def draw(report: Report, folder: Path) -> Path | None:
    """Write speed.png. None when nothing was measured over lengths. ImportError without matplotlib."""
    ticks = sorted({one.length for one in report.lengths} | {one.length for one in report.latency_lengths})
    if not ticks:
        return None
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    names = [one.model for one in report.models if not one.refused]
    styles: Styles = {
        name: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]} for i, name in enumerate(names)
    }
    panels = [draw for draw, there in ((_training, report.lengths), (_latency, report.latency_lengths)) if there]
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(5 * len(panels), 4.8), layout="constrained")
        for panel, axes in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            panel(axes, report, styles)
            _ticks(axes, ticks)
        handles = [Line2D([], [], label=name, **style) for name, style in styles.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=3 * len(panels), frameon=False)
        figure.suptitle("\n".join(textwrap.wrap(machine(report), 90 * len(panels))), fontsize=8, x=0.01, ha="left")
        figure.savefig(folder / FILE, dpi=150)
    return folder / FILE


def _training(axes: Any, report: Report, styles: Styles) -> None:
    for name, style in styles.items():
        trained = [one for one in report.lengths if one.model == name]
        x, spread = [one.length for one in trained], np.array([middle(one.tokens_per_s) for one in trained])
        axes.plot(x, spread[:, 0], **style)
        axes.fill_between(x, spread[:, 1], spread[:, 2], color=style["color"], alpha=0.15, linewidth=0)
    axes.set_title("Training: higher is better", loc="left", fontsize=10)
    axes.set_ylabel("tokens a second (shaded: 10–90 %)")


def _latency(axes: Any, report: Report, styles: Styles) -> None:
    lines = {acting: axes.plot([], [], kind, color="black")[0] for acting, kind in LINES.items()}
    for name, style in styles.items():
        for acting, kind in LINES.items():
            taken = [one for one in report.latency_lengths if (one.model, one.acting) == (name, acting)]
            p50 = [1000 * float(np.median(one.seconds)) for one in taken]
            axes.plot([one.length for one in taken], p50, kind, **style)
    axes.legend(lines.values(), lines, frameon=False, loc="upper left", title="acting")
    axes.set_title("A decision at batch 1: lower is better", loc="left", fontsize=10)
    axes.set_ylabel("median time of a decision, ms")


def _ticks(axes: Any, lengths: list[int]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    axes.set_xticks(lengths, [str(n) for n in lengths])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("context, tokens")
    axes.grid(True, which="major", alpha=0.3)
