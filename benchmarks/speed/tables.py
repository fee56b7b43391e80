"""Tables of a report, as text for the terminal and for Markdown."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.console import Group
from rich.table import Table as Grid
from rich.text import Text

from backbench import terminal
from backbench.benchmarks.speed.report import KernelEntry, LatencyEntry, Report, middle
from backbench.text import count, markdown

NOTHING = "—"
BASE = "mamba"  # training speeds are shown against it, or against the first model
# (a, b): how many times faster a is than b, where both were measured, after each peer's backbone and the peer.
PAIRS = (("mamba", "transformer"), ("gloma", "mamba"), ("gloma", "transformer"))


@dataclass(frozen=True)
class Table:
    """Every line has one cell for each column. The first cell names the line."""

    title: str
    columns: Sequence[str]
    lines: Sequence[tuple[str, ...]]
    notes: Sequence[str] = ()


def tables(report: Report) -> list[Table]:
    """The tables of a report that have at least one line."""
    found = [_models(report), _side_by_side(report), _training(report), *_over_sizes(report), _acting(report)]
    found.append(_ratios(report))
    return [table for table in (*found, *_kernels(report)) if table.lines]


def machine(report: Report) -> str:
    """One line: the machine, the settings and the versions."""
    gpu = f", {report.hardware.gpu}" if report.hardware.gpu else ""
    commit = report.git_commit[:10] if report.git_commit else "installed package"
    changed = " with changes" if report.git_dirty else ""
    computed = f"{report.device}, {count(report.threads, 'thread')}, {report.dtype}"
    software = f"torch {report.packages.get('torch', '?')}, Python {report.python}"
    computer = f"{report.hardware.cpu}, {report.hardware.cores} cores{gpu}"
    return f"{computer}; {computed}; {software}; {commit}{changed}; {report.started[:10]}"


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
        notes = (Text(f"- {note}", style="dim") for note in table.notes)
        parts += [Text(table.title, style="bold"), grid, *notes, Text("")]
    return Group(*parts)


def to_markdown(report: Report) -> str:
    """For a page."""
    parts = [markdown(machine(report)), ""]
    for table in tables(report):
        head, *lines = ("| " + " | ".join(map(markdown, line)) + " |" for line in (table.columns, *table.lines))
        sides = "|" + "|".join([":---", *["---:"] * (len(table.columns) - 1)]) + "|"
        parts += [f"### {markdown(table.title)}", "", head, sides, *lines, ""]
        parts += [*(f"- {markdown(note)}" for note in table.notes), ""] if table.notes else []
    return "\n".join(parts).rstrip() + "\n"


def show(report: Report, as_markdown: bool = False) -> None:
    """Print the tables."""
    if as_markdown:
        terminal.write(to_markdown(report) + "\n")
    else:
        console = terminal.console()
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
    return Table("Models", ("", "peer of", "kernels", "largest error"), lines, notes)


def _side_by_side(report: Report) -> Table:
    """What one chooses a backbone by: training speed against the base at each length, decisions, state."""
    timed = sorted((*report.training, *report.lengths), key=lambda one: one.length)
    names = [one.model for one in timed]
    base = BASE if BASE in names else names[0] if names else ""
    training = {length: {one.model: one.seconds for one in timed if one.length == length} for length in
                dict.fromkeys(one.length for one in timed)}  # fmt: skip
    alone = {(one.model, one.acting): one.seconds for one in report.latency if one.batch == 1}
    shown = ("window", "recurrent") if alone else ()
    lines = []
    for one in report.models:
        if one.refused is None:
            pairs = [(taken.get(base), taken.get(one.model)) for taken in training.values()]
            ratios = [_ratio(a, b) if a and b else NOTHING for a, b in pairs]
            decisions = [alone.get((one.model, acting)) for acting in shown]
            cells = [NOTHING if taken is None else _number(1000 * middle(taken)[0]) for taken in decisions]
            lines.append((one.model, *ratios, *cells, NOTHING if one.state_bytes is None else f"{one.state_bytes:,}"))
    columns = (
        "",
        *(f"{length:,} tokens" for length in training),
        *(f"{acting}, ms" for acting in shown),
        "state bytes",
    )
    note = f"Training tokens/s over those of {base}, at each length. " if base else ""
    note += "A decision of one environment in either protocol. " if alone else ""
    return Table("Side by side", columns, lines, [f"{note}What a backbone carries for one environment, all layers."])


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
    title = f"Training step: {shape}, d {model['d_model']}, {count(model['n_layers'], 'layer')}"
    columns = ("", "tokens/s", "10–90 %", "ms", "runs", "peak MB", "MFLOPs a token", "parameters")
    return Table(title, columns, lines)


def _over_sizes(report: Report) -> Iterator[Table]:
    """Training over the context, and decisions over batches and over the context: a column for each size."""

    def table(
        title: str, column: str, measured: Sequence[tuple[tuple[str, ...], int, str]], notes: Sequence[str] = ()
    ) -> Table:
        sizes = sorted({size for _, size, _ in measured})
        models = [names[0] for names, _, _ in measured]
        rows = sorted(dict.fromkeys(names for names, _, _ in measured), key=lambda names: models.index(names[0]))
        cells = {(names, size): text for names, size, text in measured}
        lines = [(*names, *(cells.get((names, size), NOTHING) for size in sizes)) for names in rows]
        heads = ("", "acting")[: len(rows[0])] if rows else ()
        return Table(title, (*heads, *(column.format(size) for size in sizes)), lines, notes)

    def decision(one: LatencyEntry, size: int) -> tuple[tuple[str, str], int, str]:
        p50, p95 = (_number(1000 * float(value)) for value in np.percentile(one.seconds, (50, 95)))
        return (one.model, one.acting), size, f"{p50} / {p95}"

    trained = [((one.model,), one.length, f"{middle(one.tokens_per_s)[0]:,.0f}") for one in report.lengths]
    batches = dict(sorted((one.length, one.batch) for one in report.lengths))
    note = f"Batches of {', '.join(map(str, batches.values()))} windows: about as many tokens at every length."
    yield table("Training over the context: tokens/s", "{:,} tokens", trained, [note])
    title = f"Time of a decision, K {report.config['model']['context']}: p50 / p95, ms"
    yield table(title, "batch {}", [decision(one, one.batch) for one in report.latency])
    title = "Time of a decision over the context, batch 1: p50 / p95, ms"
    yield table(title, "{:,} tokens", [decision(one, one.length) for one in report.latency_lengths])


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
    return Table("HalfCheetah-v5, simulator included: environment steps a CPU second", columns, lines, [note])


def _ratios(report: Report) -> Table:
    longest = max((one.length for one in report.lengths), default=0)
    window = {n: [one for one in report.latency if (one.acting, one.batch) == ("window", n)] for n in (1, 64)}
    far = [one for one in report.lengths if one.length == longest]
    measured = [
        {one.model: one.seconds for one in entries} for entries in (report.training, far, window[1], window[64])
    ]
    measured.append({one.model: (one.megabytes,) for one in report.memory if one.megabytes})
    lines = []
    for a, b in (*((one.peer_of, one.model) for one in report.models if one.peer_of), *PAIRS):
        cells = [_ratio(taken[b], taken[a]) if a in taken and b in taken else NOTHING for taken in measured]
        if set(cells) != {NOTHING}:
            lines.append((f"{a} : {b}", *cells))
    names = ("first : second", "training", f"at {longest:,} tokens", "window, 1", "window, 64", "memory")
    there = [at for at in range(len(names)) if any(line[at] != NOTHING for line in lines)]  # of the measured parts
    note = "How many times faster the first is, or less memory it needs. Medians of ratios within a round."
    return Table("Ratios", [names[at] for at in there], [tuple(line[at] for at in there) for line in lines], [note])


def _kernels(report: Report) -> Iterator[Table]:
    """The scan, the convolution, and the scan over lengths."""
    scans = [one for one in report.kernels if one.operation == "selective_scan"]
    convolutions = [one for one in report.kernels if one.operation == "causal_conv1d"]
    yield _scan(scans)
    lines = [(one.implementation, *_milliseconds(one)) for one in convolutions]
    title = f"Causal convolution, 4 taps, forward and backward, {_shape(convolutions)}"
    yield Table(title, ("", "ms", "10–90 %"), lines)
    lines = []
    for one in report.scan_lengths:
        batch, length, *_ = one.shape
        a_token = _number(1e6 * middle(one.seconds)[0] / (batch * length))
        lines.append((f"{length:,}", str(batch), *_milliseconds(one), a_token))
    name = report.scan_lengths[0].implementation if lines else ""
    columns = ("tokens", "batch", "ms", "10–90 %", "µs a token")
    yield Table(f"Selective scan ({name}) over the length, forward and backward", columns, lines)


def _scan(entries: Sequence[KernelEntry]) -> Table:
    plain = {one.implementation: one for one in entries if one.window is None}
    windowed = {(one.implementation, one.window): _milliseconds(one)[0] for one in entries if one.window is not None}
    others = [name for name, one in plain.items() if not one.ours and not one.refused]
    widths = sorted({window for _, window in windowed if window})
    lines = []
    for name, one in plain.items():
        cells = [*_milliseconds(one), *[NOTHING] * (1 + len(widths) + len(others))]
        if not one.refused:
            cells[2:] = [str(len(one.seconds)), *(windowed.get((name, width), NOTHING) for width in widths)]
            cells += [_ratio(plain[peer].seconds, one.seconds) if peer != name else NOTHING for peer in others]
        lines.append((name, *cells))
    columns = ("", "ms", "10–90 %", "runs", *(f"window {w}, ms" for w in widths), *(f"× {peer}" for peer in others))
    note = "mamba-ssm's reference: its algorithm restated in plain PyTorch, with indexing inside the loop."
    return Table(f"Selective scan, forward and backward, {_shape(entries)}", columns, lines, [note])


def _number(value: float) -> str:
    """Three significant digits or more."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"


def _ratio(a: Sequence[float], b: Sequence[float]) -> str:
    """Median of a / b, paired by round, so that a machine that slows down slows both."""
    return f"×{_number(middle([x / y for x, y in zip(a, b, strict=False)])[0])}"


def _spread(values: Sequence[float]) -> tuple[str, str]:
    """The median, and the 10th to the 90th percentile."""
    median, low, high = map(_number, middle(values))
    return median, f"{low}–{high}"


def _milliseconds(one: KernelEntry) -> tuple[str, ...]:
    return ("refused", NOTHING) if one.refused else _spread([1000 * value for value in one.seconds])


def _shape(entries: Sequence[KernelEntry]) -> str:
    return f"({', '.join(map(str, entries[0].shape if entries else ()))})"
