"""A report as tables of strings, which the terminal and Markdown both print."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.console import Console, Group
from rich.table import Table as Grid
from rich.text import Text

from backbench.benchmarks.speed.report import KernelEntry, LatencyEntry, Report, TrainingEntry, middle, ratio

NOTHING = "—"
# (a, b): how many times faster a is than b, where both were measured.
PAIRS = (
    ("transformer", "DecisionTransformerModel"), ("mamba", "mambapy"), ("mamba", "mamba-ssm"),
    ("mamba", "transformer"), ("gloma", "mamba"), ("gloma", "transformer"),
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Every line has as many cells as there are columns; the first one names the line."""

    title: str
    columns: tuple[str, ...]
    lines: Sequence[tuple[str, ...]]
    notes: tuple[str, ...] = ()


def tables(report: Report) -> list[Table]:
    """The tables of a report; those with nothing in them are left out."""
    made = (_subjects, _training, _lengths, _latency, _latency_lengths, _acting, _ratios, _scan, _convolution, _scaling)
    return [table for make in made if (table := make(report)).lines]


def machine(report: Report) -> str:
    """One line: where and with what the numbers were taken."""
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
            # A title may be folded at a space, a number or a name not.
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
        # Where nobody looks at a terminal, a width that fits the tables.
        console.width = console.width if console.is_terminal else max(console.width, 100)
        console.print(to_rich(report))


def _subjects(report: Report) -> Table:
    lines = []
    for one in report.subjects:
        kernels = ", ".join(f"{op} {name}" for op, name in one.kernels.items()) or NOTHING
        found = "refused" if one.refused else f"{max(float(c.rpartition(' ')[2]) for c in one.checks):.0e}"
        lines.append((one.name, one.peer_of or NOTHING, kernels, found))
    notes = [f"refused: {text}" for text in report.refused]
    notes += [f"{one.name}: {one.reason}" for one in report.missing]
    return Table("Who was measured", ("", "peer of", "kernels", "largest error"), lines, tuple(notes))


def _training(report: Report) -> Table:
    memory = {one.subject: one.megabytes for one in report.memory}
    speed = {one.subject: one for one in report.training}
    lines = []
    for one in report.subjects:
        if one.name not in speed and one.name not in memory:
            continue
        rate, runs, step = (NOTHING, NOTHING), NOTHING, NOTHING
        if one.name in speed:
            rate, runs = _spread(speed[one.name].tokens_per_s), str(len(speed[one.name].seconds))
            step = _number(1000 * middle(speed[one.name].seconds)[0])
        used = _number(memory[one.name]) if one.name in memory else NOTHING
        flops = NOTHING if one.flops_per_token is None else _number(one.flops_per_token / 1e6)
        lines.append((one.name, *rate, step, runs, used, flops, f"{one.parameters:,}"))
    model = report.config["model"]
    shape = f"batch {report.config['batch_size']}, {3 * model['context']} tokens"
    title = f"Training step: {shape}, d {model['d_model']}, {_count(model['n_layers'], 'layer')}"
    columns = ("", "tokens/s", "10–90 %", "ms", "runs", "peak MB", "MFLOPs a token", "parameters")
    return Table(title, columns, lines)


def _lengths(report: Report) -> Table:
    lengths = sorted({one.length for one in report.lengths})
    batches = {one.length: one.batch for one in report.lengths}
    cells = {(one.subject, one.length): f"{middle(one.tokens_per_s)[0]:,.0f}" for one in report.lengths}
    lines = [(name, *(cells.get((name, n), NOTHING) for n in lengths)) for name in _names(report.lengths)]
    note = f"Batches of {', '.join(str(batches[n]) for n in lengths)} windows: about as many tokens at every length."
    title = "Training over the context: tokens/s"
    return Table(title, ("", *(f"{n:,} tokens" for n in lengths)), lines, (note,))


def _latency(report: Report) -> Table:
    context = report.config["model"]["context"]
    return _decisions(report.latency, "batch", f"Time of a decision, K {context}: p50 / p95, ms", lambda one: one.batch)


def _latency_lengths(report: Report) -> Table:
    title = "Time of a decision over the context, batch 1: p50 / p95, ms"
    return _decisions(report.latency_lengths, "tokens", title, lambda one: one.length)


def _decisions(entries: Sequence[LatencyEntry], unit: str, title: str, place: Callable[[LatencyEntry], int]) -> Table:
    places = sorted({place(one) for one in entries})
    cells: dict[tuple[str, str, int], str] = {
        (one.subject, one.acting, place(one)): _p50_p95(one.seconds) for one in entries
    }
    lines = [
        (name, acting, *(cells.get((name, acting, at), NOTHING) for at in places))
        for name in _names(entries)
        for acting in ("window", "recurrent")
        if any((name, acting, at) in cells for at in places)
    ]
    return Table(
        title, ("", "acting", *(f"{at:,} {unit}" if unit == "tokens" else f"{unit} {at}" for at in places)), lines
    )


def _acting(report: Report) -> Table:
    alone = {one.subject: one for one in report.acting if one.acting == "alone"}
    peer = alone.get("DecisionTransformerModel")
    columns = ["", "acting", "envs", "steps", "steps/CPU s", "10–90 %", "× alone"]
    lines = []
    for one in report.acting:
        own = alone[one.subject]
        line = [one.subject, one.acting, str(one.environments), f"{one.steps:,}", *_spread(one.rate)]
        line.append(NOTHING if one is own else _times(ratio(one.rate, own.rate)[0]))
        if peer is not None:
            line.append(NOTHING if one is peer else _times(ratio(one.rate, peer.rate)[0]))
        lines.append(tuple(line))
    if peer is not None:
        columns.append("× DT alone")
    note = (
        "alone: one environment at batch 1, the whole model recomputed on its window, as evaluation loops are usually "
        "written. × alone: against the same model alone; × DT alone: against DecisionTransformerModel alone."
    )
    title = "HalfCheetah-v5, simulator included: environment steps a CPU second"
    return Table(title, tuple(columns), lines, (note,))


def _ratios(report: Report) -> Table:
    training = {one.subject: one.seconds for one in report.training}
    longest = max((one.length for one in report.lengths), default=0)
    far = {one.subject: one.seconds for one in report.lengths if one.length == longest}
    memory = {one.subject: one.megabytes for one in report.memory}
    window = {
        batch: {one.subject: one.seconds for one in report.latency if (one.acting, one.batch) == ("window", batch)}
        for batch in (1, 64)
    }
    lines = []
    for a, b in PAIRS:
        cells = [
            _times(ratio(taken[b], taken[a])[0]) if a in taken and b in taken else NOTHING
            for taken in (training, far, window[1], window[64])
        ]
        cells.append(_times(memory[b] / memory[a]) if memory.get(a) and b in memory else NOTHING)
        if set(cells) != {NOTHING}:
            lines.append((f"{a} : {b}", *cells))
    columns = ("first : second", "training", f"at {longest:,} tokens", "window, 1", "window, 64", "memory")
    note = "How many times faster the first is (how many times less memory it takes); medians of ratios within a round."
    return Table("Ratios", columns, lines, (note,))


def _scan(report: Report) -> Table:
    entries = [one for one in report.kernels if one.operation == "selective_scan"]
    plain = {one.implementation: one for one in entries if one.window is None}
    windowed = {(one.implementation, one.window): one for one in entries if one.window is not None}
    others = [name for name, one in plain.items() if not one.ours and not one.refused]
    widths = sorted({window for _, window in windowed if window})
    lines = []
    for name, one in plain.items():
        if one.refused:
            lines.append((name, "refused", *[NOTHING] * (2 + len(widths) + len(others))))
            continue
        cells = [*_milliseconds(one), str(len(one.seconds))]
        cells += [_milliseconds(windowed[name, w])[0] if (name, w) in windowed else NOTHING for w in widths]
        cells += [_times(ratio(plain[peer].seconds, one.seconds)[0]) if peer != name else NOTHING for peer in others]
        lines.append((name, *cells))
    shape = next((one.shape for one in entries), ())
    columns = ("", "ms", "10–90 %", "runs", *(f"window {w}, ms" for w in widths), *(f"× {peer}" for peer in others))
    note = "mamba-ssm's reference: its algorithm in plain PyTorch, written anew; it indexes inside the loop."
    return Table(f"Selective scan, forward and backward, {_shape(shape)}", columns, lines, (note,))


def _convolution(report: Report) -> Table:
    entries = [one for one in report.kernels if one.operation == "causal_conv1d"]
    lines = [(one.implementation, *(("refused", NOTHING) if one.refused else _milliseconds(one))) for one in entries]
    shape = next((one.shape for one in entries), ())
    return Table(f"Causal convolution, 4 taps, forward and backward, {_shape(shape)}", ("", "ms", "10–90 %"), lines)


def _scaling(report: Report) -> Table:
    entries = report.scan_lengths
    name = entries[0].implementation if entries else ""
    lines = []
    for one in entries:
        tokens = one.shape[0] * one.shape[1]
        lines.append((f"{one.shape[1]:,}", str(one.shape[0]), *_milliseconds(one),
                      _number(1e6 * middle(one.seconds)[0] / tokens)))  # fmt: skip
    columns = ("tokens", "batch", "ms", "10–90 %", "µs a token")
    return Table(f"Selective scan ({name}) over the length, forward and backward", columns, lines)


def _names(entries: Iterable[TrainingEntry | LatencyEntry]) -> list[str]:
    return list(dict.fromkeys(one.subject for one in entries))


def _number(value: float) -> str:
    """Three significant digits or more."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"


def _times(value: float) -> str:
    return f"×{_number(value)}"


def _spread(values: Sequence[float]) -> tuple[str, str]:
    """The median, and the 10th to the 90th percentile."""
    median, low, high = middle(list(values))
    return _number(median), f"{_number(low)}–{_number(high)}"


def _milliseconds(one: KernelEntry) -> tuple[str, str]:
    return _spread([1000 * value for value in one.seconds])


def _p50_p95(seconds: Sequence[float]) -> str:
    p50, p95 = (_number(1000 * float(value)) for value in np.percentile(seconds, (50, 95)))
    return f"{p50} / {p95}"


def _shape(shape: Sequence[int]) -> str:
    return "(" + ", ".join(map(str, shape)) + ")"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _escape(text: str) -> str:
    for sign, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, entity)
    return "".join("\\" + letter if letter in "\\`*_[]|#" else letter for letter in text)
