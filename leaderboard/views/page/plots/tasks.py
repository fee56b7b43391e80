"""Plots of single tasks: training loss, score during training, and return against target return."""

from collections.abc import Sequence

from backbench.leaderboard.views.page.markup import Html, View
from backbench.leaderboard.views.page.numbers import score, short
from backbench.leaderboard.views.page.plots.panel import Panel, Style, Styles, rule
from backbench.leaderboard.views.page.plots.scales import Scale, axis, span

Line = Sequence[Sequence[float]]  # (update, value), or (update, mean, smallest, largest over seeds), by update
POINTS, POINTS_IN_DETAIL = 40, 200  # most points of a line, to keep pages small


def courses(key: str, section: View, rows: Sequence[View], styles: Styles, *, detailed: bool = False) -> list[Html]:
    """Training loss (``key`` curves) or scores during training (evaluations), a panel for each task.

    ``detailed``: more points, and bands from smallest to largest seed. A single evaluation is not a course.
    """
    loss, most = key == "curves", POINTS_IN_DETAIL if detailed else POINTS
    panels = []
    for task in section["tasks"]:
        lines = [(styles[row["id"]], row[key][task]) for row in rows if row[key].get(task)]
        if loss:  # without its first twentieth: the first fall would flatten the rest
            lines = [(style, [dot for dot in line if dot[0] >= line[-1][0] / 20] or line) for style, line in lines]
        if any(loss or len(line) > 1 for _, line in lines):
            panels.append(_course(task, loss, [(style, thin(line, most)) for style, line in lines], detailed))
    return panels


def _course(task: str, loss: bool, found: Sequence[tuple[Style, Line]], detailed: bool) -> Html:
    """Loss or score against optimiser updates."""
    unit = "training loss" if loss else "score"
    about = f"{unit} of each row against optimiser updates on {task}, mean over seeds."
    panel = Panel(task, about, height=210, name=f"{task}, {unit}")
    steps = [dot[0] for _, line in found for dot in line]
    values = [value for _, line in found for dot in line for value in dot[1 : 4 if detailed else 2]]
    x = Scale(0, max(*steps, 1), panel.left, panel.right - 6)
    y = axis(values, panel.bottom, panel.top, log_from=1 if loss else None)
    panel.x_axis(x, "updates", 4)
    panel.y_axis(y, unit + (", log" if y.log else ""), 4)
    for style, line in found:
        xs, ys = [x(dot[0]) for dot in line], [y(dot[1]) for dot in line]
        if detailed and len(line[0]) == 4:
            panel.add(style.band(xs, [y(dot[2]) for dot in line], [y(dot[3]) for dot in line]))
        panel.add(style.line(zip(xs, ys, strict=True), style.label))
        if len(line) == 1 or not loss:
            for px, py, dot in zip(xs, ys, line, strict=True):
                panel.add(style.marker(px, py, f"{style.label}: {short(dot[1])} at {dot[0]:,}", 3))
    return panel.svg()


def thin(line: Line, most: int) -> list[Sequence[float]]:
    """At most ``most`` points at equal distances, the first and the last included."""
    if len(line) <= most:
        return list(line)
    return [line[round(index * (len(line) - 1) / (most - 1))] for index in range(most)]


def targets(section: View, rows: Sequence[View], styles: Styles) -> list[Html]:
    """Mean return against target return, a panel for each task."""
    panels, settings = [], section["task_settings"]
    for task in section["tasks"]:
        found = [(styles[row["id"]], sorted(row["targets"][task])) for row in rows if row["targets"].get(task)]
        if found:
            panels.append(_target(task, found, settings.get(task, {}).get("returns_to_go", "raw")))
    return panels


def _target(task: str, found: Sequence[tuple[Style, Line]], rewards: str) -> Html:
    raw = rewards == "raw"  # clipped targets and raw returns are on different scales: there is no diagonal
    diagonal = "On the diagonal they are equal." if raw else f"Targets are sums of {rewards} rewards: no diagonal."
    about = f"Mean raw return of each row on {task} against the target return that it was conditioned on. {diagonal}"
    panel = Panel(task, about, name=f"{task}, return against target return")
    asked, got = ([dot[i] for _, line in found for dot in line] for i in (0, 1))
    both = [*asked, *got, 0.0] if raw else []
    x = Scale(*span(both or [*asked, 0.0]), panel.left, panel.right - 4)
    y = Scale(*span(both or [*got, 0.0]), panel.bottom, panel.top)
    panel.x_axis(x, "target return" + ("" if raw else f" ({rewards} rewards)"))
    panel.y_axis(y, "return", 5)
    if raw:
        panel.add(rule(x(x.low), y(x.low), x(x.high), y(x.high), "half"))
    for style, line in found:
        panel.add(style.line([(x(dot[0]), y(dot[1])) for dot in line]))
        for dot in line:
            said = f"{style.label}: target {short(dot[0])}, return {short(dot[1])}, score {score(dot[2])}"
            panel.add(style.marker(x(dot[0]), y(dot[1]), said))
    return panel.svg()
