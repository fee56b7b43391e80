"""The plots of a section, with one legend for all of them."""

from collections.abc import Iterator, Sequence

from backbench.leaderboard.board import columns
from backbench.leaderboard.board.analysis import ALIKE
from backbench.leaderboard.views.page.markup import Html, View, el, name
from backbench.leaderboard.views.page.parts import figure, fold
from backbench.leaderboard.views.page.plots import comparisons, tasks
from backbench.leaderboard.views.page.plots.panel import Styles, shorten


def figures(section: View, rows: Sequence[View], styles: Styles, *, single_tasks: bool) -> Html | None:
    """Plots of the rows that have a style. ``single_tasks``: with those of each task."""
    drawn = [row for row in rows if row["id"] in styles]
    found = [
        *(_comparisons(section, drawn, styles) if len(drawn) > 1 else ()),
        *(_tasks(section, drawn, styles) if single_tasks else ()),
    ]
    if not any(found):
        return None
    swatches = [el("li", {"data-row": row["id"]}, styles[row["id"]].swatch(), " ", name(row["label"])) for row in drawn]
    legend = el("ul", {"class": "key", "aria-label": "Rows in the plots"}, swatches)
    omitted = [el("p", None, says) for says in _omitted(section, rows, styles, single_tasks)]
    return el("div", {"class": "plots"}, el("h3", None, "Plots"), legend, omitted, found)


def _omitted(section: View, rows: Sequence[View], styles: Styles, single_tasks: bool) -> Iterator[str]:
    """What the plots do not show."""
    if len(rows) > len(styles):
        yield f"The plots show the first {len(styles)} of {len(rows)} rows by IQM."
    if len(comparisons.pairs(section, styles)) > comparisons.PAIRS:
        yield f"There are more than {comparisons.PAIRS} pairs: the plots show only those of the first row."
    if not single_tasks:
        yield "Plots of single tasks are on the rows' pages: here they would be too many."
    if not any(row["aggregates"] for row in rows if row["id"] in styles):
        unscaled = section["normaliser"] == "none"
        reason = "The suite has no normaliser" if unscaled else "No row has every task with a common seed"
        if any("rates of successes" in note for note in section["notes"]):
            reason = "Some tasks have rates of successes and others have returns"
        yield f"{reason}, so there are no aggregates."


def _comparisons(section: View, rows: Sequence[View], styles: Styles) -> Iterator[Html | None]:
    """Over all tasks."""
    several = len(section["tasks"]) > 1
    says = "Value and 95 % interval. Where intervals overlap, the order of the rows says little."
    yield figure("Aggregates", comparisons.aggregates(rows, styles) if several else (), says, kind="four")
    says = (
        "The profile shows how many runs score above each threshold, with pointwise 95 % bands "
        "where there are few rows. The probability of "
        "improvement is how often a run of one row scores higher than a run of another on the same task. An interval "
        "that includes one half decides nothing. The paired difference compares mean scores from the same starts. Its "
        "interval resamples each row's seeds, and starts jointly for both rows. The mark s means over starts only: a "
        "row has one seed, and the noise of training is not in the interval. No correction is made for the number of "
        "pairs."
    )
    how = fold("How to read profiles and pairs", el("p", None, says))
    panels = [*(comparisons.profiles(rows, styles) if several else ()), *comparisons.improvement(section, styles)]
    panels += comparisons.paired(section, styles)
    yield figure("Profiles and improvement", panels, _decided(section), how, kind="wide")
    says = "Rings mark rows that no other row beats in both IQM and that cost, by point estimates."
    costs = columns.shown(columns.COSTS, "page")
    if alike := ", ".join(cost.name for cost in costs if cost.key in section["undecided_costs"]):
        says += f" No front for {alike}: rows differ by less than {ALIKE:.0%}."
    for cost in (cost for cost in costs if cost.counted and cost.required):
        if unknown := [row["label"] for row in rows if row["aggregates"] and row["cost"].get(cost.key) is None]:
            says += f" {cost.title}: unknown for {', '.join(unknown)}."
    measured = fold("How costs were measured", el("p", None, section["measured"]))
    yield figure("Score and cost", comparisons.pareto(section, rows, styles), says, measured, kind="four")


def _tasks(section: View, rows: Sequence[View], styles: Styles) -> Iterator[Html | None]:
    """A panel for each task."""
    says = "Training loss, mean over seeds, without the first twentieth of the updates."
    yield figure("Learning curves", tasks.courses("curves", section, rows, styles), says)
    says = "Scores of evaluations during training, mean over seeds."
    yield figure("Score during training", tasks.courses("evaluations", section, rows, styles), says)
    says = "Mean return for each target return. On the dashed diagonal both are equal."
    yield figure("Return against target return", tasks.targets(section, rows, styles), says)


def _decided(section: View) -> str:
    """Which pairs are decided, and how many are not."""
    labels = {row["id"]: shorten(row["label"], 24) for row in section["rows"]}
    better: dict[str, list[str]] = {}
    for one in section["improvement"]:
        if one["decided"]:
            better.setdefault(labels[one["x"]], []).append(labels[one["y"]])
    count = len(section["improvement"]) // 2
    undecided = count - sum(map(len, better.values()))
    said = "; ".join(f"{x} over {', '.join(ys)}" for x, ys in better.items())
    decided = f"Decided at 95 % each: {said}. " if said and len(better) <= comparisons.PAIRS else ""
    return f"{decided}Undecided: {undecided} of {count} pairs."
