"""Tables of a report, as text for the terminal and for Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from rich import box
from rich.console import Console, Group
from rich.table import Table as Grid
from rich.text import Text

from backbench.benchmarks.speed.report import KernelEntry, Report, middle

NOTHING = "—"
Names = tuple[str, ...]
# (a, b): how many times faster a is than b, where both were measured.
PAIRS = (
    ("transformer", "DecisionTransformerModel"), ("mamba", "mambapy"), ("mamba", "mamba-ssm"),
    ("mamba", "transformer"), ("gloma", "mamba"), ("gloma", "transformer"),
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Every line has one cell for each column. The first cell names the line."""

    title: str
    columns: tuple[str, ...]
    lines: Sequence[tuple[str, ...]]
    notes: tuple[str, ...] = ()


def tables(report: Report) -> list[Table]:
    """The tables of a report that have at least one line."""
    makers = (_models, _training, _lengths, _latency, _latency_lengths, _acting, _ratios, _scan, _convolution, _scaling)
    return [table for make in makers if (table := make(report)).lines]


def machine(report: Report) -> str:
    """One line: the machine, the settings and the versions."""
    gpu = f", {report.hardware.gpu}" if report.hardware.gpu else ""
    commit = report.git_commit[:10] if report.git_commit else "installed package"
    changed = " with changes" if report.git_dirty else ""
    computed = f"{report.device}, {_count(report.threads, 'thread')}, {report.dtype}"
    software = f"torch {report.packages.get('torch', '?')}, Python {report.python}"
    return (
        f"{report.hardware.cpu}, {report.hardware.cores} cores{gpu}; {computed}; {software}; {commit}{changed}; "
        f"{report.started[:10]}"
    )


def to_rich(report: Report) -> Group:
    """For the terminal."""
    parts: list[Grid | Text] = [Text(machine(report)), Text("")]
    for table in tables(report):
        grid = Grid(box=box.SIMPLE, pad_edge=False, header_style="bold", show_edge=False, padding=(0, 1, 0, 0))
        for index, name in enumerate(table.columns):
            # A title may be folded at a space; a number or a name may not.
            widest = max(8, *(len(text) for text in (*name.split(), *(line[index] for line in table.lines))))
            title = Text("\n".join(textwrap.wrap(name, widest)))
            grid.add_column(title, justify="left" if index == 0 else "right", no_wrap=True)
        for line in table.lines:
            grid.add_row(*map(Text, line))  # Text, not str: a name such as "[red]" is a name, not markup
        parts += [Text(table.title, style="bold"), grid, *(Text(f"- {note}", style="dim") for note in table.notes)]
        parts.append(Text(""))
    return Group(*parts)


def to_markdown(report: Report) -> str:
    """For a page."""
    parts = [_escape(machine(report)), ""]
    for table in tables(report):
        parts += [f"### {_escape(table.title)}", "", "| " + " | ".join(map(_escape, table.columns)) + " |"]
        parts.append("|" + "|".join([":---", *["---:"] * (len(table.columns) - 1)]) + "|")
        parts += ["| " + " | ".join(map(_escape, line)) + " |" for line in table.lines]
        parts += ["", *(f"- {_escape(note)}" for note in table.notes)]
        parts += [""] if table.notes else []
    return "\n".join(parts).rstrip() + "\n"


def show(report: Report, markdown: bool = False) -> None:
    """Print the tables."""
    if markdown:
        print(to_markdown(report))
    else:
        console = Console()
        # In a file or a pipe, a width that fits the tables.
        console.width = console.width if console.is_terminal else max(console.width, 100)
        console.print(to_rich(report))


def _models(report: Report) -> Table:
    lines = []
    for one in report.models:
        kernels = ", ".join(f"{op} {name}" for op, name in one.kernels.items()) or NOTHING
        found = "refused" if one.refused else f"{max(float(c.rpartition(' ')[2]) for c in one.checks):.0e}"
        lines.append((one.model, one.peer_of or NOTHING, kernels, found))
    notes = [f"refused: {text}" for text in report.refused]
    notes += [f"{one.name}: {one.reason}" for one in report.missing]
    return Table("Models", ("", "peer of", "kernels", "largest error"), lines, tuple(notes))


def _training(report: Report) -> Table:
    memory = {one.model: _number(one.megabytes) for one in report.memory}
    speed = {
        one.model: (*_spread(one.tokens_per_s), _number(1000 * middle(one.seconds)[0]), str(len(one.seconds)))
        for one in report.training
    }
    lines = []
    for one in report.models:
        if one.model in speed or one.model in memory:
            flops = NOTHING if one.flops_per_token is None else _number(one.flops_per_token / 1e6)
            measured = (*speed.get(one.model, [NOTHING] * 4), memory.get(one.model, NOTHING))
            lines.append((one.model, *measured, flops, f"{one.parameters:,}"))
    model = report.config["model"]
    shape = f"batch {report.config['batch_size']}, {3 * model['context']} tokens"
    title = f"Training step: {shape}, d {model['d_model']}, {_count(model['n_layers'], 'layer')}"
    columns = ("", "tokens/s", "10–90 %", "ms", "runs", "peak MB", "MFLOPs a token", "parameters")
    return Table(title, columns, lines)


def _over_sizes(title: str, heads: Names, column: str, measured: Sequence[tuple[Names, int, str]]) -> Table:
    """A line for each tuple of names, a column for each size.

    Args:
        title, heads: of the table, and of the columns of names.
        column: format of the other columns' titles.
        measured: names, size and text of each cell.
    """
    sizes = sorted({size for _, size, _ in measured})
    models = [names[0] for names, _, _ in measured]
    rows = sorted(dict.fromkeys(names for names, _, _ in measured), key=lambda names: models.index(names[0]))
    cells = {(names, size): text for names, size, text in measured}
    lines = [(*names, *(cells.get((names, size), NOTHING) for size in sizes)) for names in rows]
    return Table(title, (*heads, *(column.format(size) for size in sizes)), lines)


def _lengths(report: Report) -> Table:
    measured = [((one.model,), one.length, f"{middle(one.tokens_per_s)[0]:,.0f}") for one in report.lengths]
    batches = dict(sorted((one.length, one.batch) for one in report.lengths))
    note = f"Batches of {', '.join(map(str, batches.values()))} windows: about as many tokens at every length."
    table = _over_sizes("Training over the context: tokens/s", ("",), "{:,} tokens", measured)
    return replace(table, notes=(note,))


def _latency(report: Report) -> Table:
    title = f"Time of a decision, K {report.config['model']['context']}: p50 / p95, ms"
    measured = [((one.model, one.acting), one.batch, _p50_p95(one.seconds)) for one in report.latency]
    return _over_sizes(title, ("", "acting"), "batch {}", measured)


def _latency_lengths(report: Report) -> Table:
    title = "Time of a decision over the context, batch 1: p50 / p95, ms"
    measured = [((one.model, one.acting), one.length, _p50_p95(one.seconds)) for one in report.latency_lengths]
    return _over_sizes(title, ("", "acting"), "{:,} tokens", measured)


def _acting(report: Report) -> Table:
    alone = {one.model: one for one in report.acting if one.acting == "alone"}
    peer = alone.get("DecisionTransformerModel")
    columns = ["", "acting", "envs", "steps", "steps/CPU s", "10–90 %", "× alone", *(["× DT alone"] if peer else [])]
    lines = []
    for one in report.acting:
        baselines = [alone[one.model], *([peer] if peer else [])]
        times = [NOTHING if one is baseline else _ratio(one.rate, baseline.rate) for baseline in baselines]
        lines.append((one.model, one.acting, str(one.environments), f"{one.steps:,}", *_spread(one.rate), *times))
    note = (
        "alone: one environment at batch 1 that recomputes the complete model on its window, as most evaluation loops "
        "do. × alone: against the same model alone. × DT alone: against DecisionTransformerModel alone."
    )
    title = "HalfCheetah-v5, simulator included: environment steps a CPU second"
    return Table(title, tuple(columns), lines, (note,))


def _ratios(report: Report) -> Table:
    longest = max((one.length for one in report.lengths), default=0)
    window = {n: [one for one in report.latency if (one.acting, one.batch) == ("window", n)] for n in (1, 64)}
    far = [one for one in report.lengths if one.length == longest]
    measured = [
        {one.model: one.seconds for one in entries} for entries in (report.training, far, window[1], window[64])
    ]
    measured.append({one.model: (one.megabytes,) for one in report.memory if one.megabytes})
    lines = []
    for a, b in PAIRS:
        cells = [_ratio(taken[b], taken[a]) if a in taken and b in taken else NOTHING for taken in measured]
        if set(cells) != {NOTHING}:
            lines.append((f"{a} : {b}", *cells))
    columns = ("first : second", "training", f"at {longest:,} tokens", "window, 1", "window, 64", "memory")
    note = "How many times faster the first is, or less memory it needs. Medians of ratios within a round."
    return Table("Ratios", columns, lines, (note,))


def _scan(report: Report) -> Table:
    entries = [one for one in report.kernels if one.operation == "selective_scan"]
    plain = {one.implementation: one for one in entries if one.window is None}
    windowed = {(one.implementation, one.window): _milliseconds(one)[0] for one in entries if one.window is not None}
    others = [name for name, one in plain.items() if not one.ours and not one.refused]
    widths = sorted({window for _, window in windowed if window})
    lines = []
    for name, one in plain.items():
        cells = ["refused", *[NOTHING] * (2 + len(widths) + len(others))]
        if not one.refused:
            cells = [*_milliseconds(one), str(len(one.seconds)), *(windowed.get((name, w), NOTHING) for w in widths)]
            cells += [_ratio(plain[peer].seconds, one.seconds) if peer != name else NOTHING for peer in others]
        lines.append((name, *cells))
    columns = ("", "ms", "10–90 %", "runs", *(f"window {w}, ms" for w in widths), *(f"× {peer}" for peer in others))
    note = "mamba-ssm's reference: its algorithm restated in plain PyTorch, with indexing inside the loop."
    return Table(f"Selective scan, forward and backward, {_shape(entries)}", columns, lines, (note,))


def _convolution(report: Report) -> Table:
    entries = [one for one in report.kernels if one.operation == "causal_conv1d"]
    lines = [(one.implementation, *(("refused", NOTHING) if one.refused else _milliseconds(one))) for one in entries]
    return Table(f"Causal convolution, 4 taps, forward and backward, {_shape(entries)}", ("", "ms", "10–90 %"), lines)


def _scaling(report: Report) -> Table:
    lines = []
    for one in report.scan_lengths:
        batch, length, *_ = one.shape
        a_token = _number(1e6 * middle(one.seconds)[0] / (batch * length))
        lines.append((f"{length:,}", str(batch), *_milliseconds(one), a_token))
    name = report.scan_lengths[0].implementation if lines else ""
    columns = ("tokens", "batch", "ms", "10–90 %", "µs a token")
    return Table(f"Selective scan ({name}) over the length, forward and backward", columns, lines)


def _number(value: float) -> str:
    """Three significant digits or more."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"


def _ratio(a: Sequence[float], b: Sequence[float]) -> str:
    """Median of a / b, paired by round, so that a machine that slows down slows both."""
    return f"×{_number(middle([x / y for x, y in zip(a, b, strict=False)])[0])}"


def _spread(values: Sequence[float]) -> tuple[str, str]:
    """The median, and the 10th to the 90th percentile."""
    median, low, high = middle(values)
    return _number(median), f"{_number(low)}–{_number(high)}"


def _milliseconds(one: KernelEntry) -> tuple[str, str]:
    return _spread([1000 * value for value in one.seconds])


def _p50_p95(seconds: Sequence[float]) -> str:
    p50, p95 = (_number(1000 * float(value)) for value in np.percentile(seconds, (50, 95)))
    return f"{p50} / {p95}"


def _shape(entries: Sequence[KernelEntry]) -> str:
    return f"({', '.join(map(str, entries[0].shape if entries else ()))})"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _escape(text: str) -> str:
    for sign, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, entity)
    return "".join("\\" + letter if letter in "\\`*_[]|#" else letter for letter in text)
