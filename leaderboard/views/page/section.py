"""One section of index.html: a table, its plots, and published scores for the same tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backbench.leaderboard.views.page.figures import figures
from backbench.leaderboard.views.page.heat import at_a_glance
from backbench.leaderboard.views.page.markup import Child, Html, View, breakable, cite, el, join, name
from backbench.leaderboard.views.page.numbers import NOTHING, score, short
from backbench.leaderboard.views.page.parts import badge, choice, estimate, fold, grid, protocol, warning
from backbench.leaderboard.views.page.plots.panel import Style
from backbench.leaderboard.views.page.table import GROUPS, main_table, ordered
from backbench.text import count

EMBEDDED = (
    "Small policies generated these data. They are not the published data sets of the same names. No score here "
    "compares with a paper."
)
EPISODES = (
    "An interval marked e is over the evaluation episodes of a single seed. It does not include the noise of training, "
    "which is usually larger."
)

RATES = (
    "An interval marked w is Wilson’s, of a rate of successes over the episodes of a single seed, or of one seed where "
    "all seeds have equal rates: they play the same starts. It does not include the noise of training."
)


@dataclass(frozen=True)
class Detail:
    """How much of a view index.html shows."""

    single_tasks: bool = True  # plots of single tasks
    plots: bool = True  # any plots
    drawn: int = 12  # most rows in a plot
    rows: int | None = None  # rows of a section; None for all


def section_part(section: View, sections: Sequence[View], detail: Detail) -> Html:
    """``section`` of ``sections``. Scores come first, and every explanation is folded."""
    rows = ordered(section["rows"])
    shown = rows[: detail.rows]
    styles = {row["id"]: Style(row["id"], row["label"], index) for index, row in enumerate(rows[: detail.drawn])}
    generated = section["source"] == "embedded"
    scores = [one for row in rows for one in row["scores"].values()]
    one_seed = any(one["over"] == "episodes" and len(one["seeds"]) == 1 for one in scores)
    over_episodes = any(one["over"] == "episodes" and one["method"] == "bootstrap" for one in scores)
    rates = any(one["method"] == "wilson" for one in scores)
    warnings = {
        "Generated data: do not compare with papers.": generated,
        "One seed only: do not rank these rows.": one_seed,
        f"Only {len(shown)} of {len(rows)} rows are shown. The CSV and JSON views have all.": len(shown) < len(rows),
    }
    plots = figures(section, rows, styles, single_tasks=detail.single_tasks) if detail.plots else None
    instead = "No plots: the page would be too large. Each row's page has its own."
    notes, heading = section["notes"], f"{section['id']}-title"
    listed = el("ul", {"class": "notes"}, [el("li", None, name(note)) for note in notes])
    return el(
        "section",
        {"class": "section", "id": section["id"], "aria-labelledby": heading},
        el("h2", {"id": heading, "tabindex": "-1"}, name(section["title"])),
        [warning(says) for says, holds in warnings.items() if holds],
        _controls(section),
        main_table(section, shown, styles),
        at_a_glance(section, shown),
        _longer(shown),
        _apart(section, sections),
        fold(f"{count(len(notes), 'note')} on these records", listed) if notes else None,
        _protocol(
            section, EMBEDDED if generated else None, EPISODES if over_episodes else None, RATES if rates else None
        ),
        plots if detail.plots else warning(instead),
        el("h3", None, "Published scores"),
        _published(section, {row["id"]: row["label"] for row in rows}),
    )


def _controls(section: View) -> Html:
    """A filter for rows and a choice of columns, for the script."""
    field = f"{section['id']}-filter"
    attrs = {"type": "search", "id": field, "class": "filter", "autocomplete": "off", "placeholder": "part of a name"}
    rows = el("label", {"for": field}, "Filter rows"), " ", el("input", attrs), " "
    found = el("output", {"for": field, "aria-live": "polite"})
    box = {"type": "checkbox", "checked": True}
    choices = [choice(title.split(",")[0], {**box, "data-group": group}) for group, title in GROUPS.items()]
    columns = el("fieldset", None, el("legend", None, "Columns"), el("div", {"class": "choices"}, choices))
    by = el("div", {"class": "choices"}, choice("by mechanism", {"type": "checkbox", "class": "grouped"}))
    kinds = {row["mechanism"] for row in section["rows"]}
    grouping = el("fieldset", None, el("legend", None, "Group rows"), by) if len(kinds) > 1 else None
    return el("div", {"class": "controls js-only"}, el("p", None, rows, found), grouping, columns)


def _apart(section: View, sections: Sequence[View]) -> Html | None:
    """Why the section is a table of its own."""
    if not section["apart"]:
        return None
    nearest = section["apart_from"]
    other: Child = "the first table"
    if nearest is not None and 0 <= nearest < len(sections):
        other = el("a", {"href": f"#{sections[nearest]['id']}"}, name(sections[nearest]["title"]))
    reasons = el("ul", None, [el("li", None, name(reason)) for reason in section["apart"]])
    return fold("Why this is a separate table", el("p", None, "It differs from ", other, " in:"), reasons)


def _protocol(section: View, *remarks: str | None) -> Html:
    """How the rows were evaluated, on which data, and with which versions."""
    lines: list[Sequence[Child]] = []
    for task, one in section["task_settings"].items():
        targets = ", ".join(f"{target:g}" for target in one["targets"])
        mean = f"{section['data'][task]:.1f}" if task in section["data"] else NOTHING
        digest = el("code", None, one["data_sha256"] or "unknown")
        evaluated = targets, short(one["max_steps"]), one["returns_to_go"]
        lines.append((task, one["environment"], str(one["context"]), *evaluated, mean, digest))
    heads = ("Task", "Environment", "K", "Target returns", "Longest episode", "Returns-to-go", "Data mean",
             "Data sha256")  # fmt: skip
    versions = ", ".join(f"{package} {version}" for package, version in sorted((section["versions"] or {}).items()))
    scale = cite(section["citation"] or str(section["normaliser"]))
    says = [
        f"Protocol: {protocol(section)}.",
        "Scores are of the last checkpoint and the first target return, as a mean over seeds.",
        join("Scale: ", scale, ". × is the score divided by the data set’s own mean."),
        *remarks,
        f"Versions that every row shares: {versions}." if versions else None,
    ]
    prose = [el("p", None, one) for one in says if one]
    return fold("Protocol, data and versions", prose, grid("Per task", heads, lines, left=(1, 5, 7)))


def _longer(rows: Sequence[View]) -> Html | None:
    """Scores on longer episodes than those of training: a line for each task, length and protocol."""
    keys = dict.fromkeys((one["task"], one["times"], one["acting"]) for row in rows for one in row["longer"])
    found = [{(one["task"], one["times"], one["acting"]): one for one in row["longer"]} for row in rows]
    lines: list[Sequence[Child]] = []
    for key in keys:
        known = next(one[key] for one in found if key in one)
        lag = NOTHING if known["lag"] is None else f"{known['lag']}{' > K' if known['beyond'] else ''}"
        task, times, acting = key
        lines.append((task, str(times), acting, lag, *(estimate(one[key]) if key in one else NOTHING for one in found)))
    if not lines:
        return None
    says = (
        "Trained at the data's length, scored at multiples of it with windows that are as many times longer. "
        "Lag: most steps from what an answer needs to the answer; > K where the windows of training held fewer."
    )
    heads = ["Task", "Length, times", "Acting", "Lag, steps", *(breakable(row["label"]) for row in rows)]
    return fold("Longer episodes than in training", el("p", None, says), grid("Scores", heads, lines, left=(2,)))


def _published(section: View, labels: Mapping[str, str]) -> Html:
    """Both tables under their headings. ``labels``: row id to label."""
    if not section["reported"] and not section["reproduction"]:
        return el("p", None, "No published scores are known for these tasks on this scale.")
    says = "Others reported these scores, with their own data and protocols. They enter no aggregate of ours."
    why = "No difference to reported scores is shown: their data source or protocol differs from ours."
    why = next((note for note in section["notes"] if "reported" in note), why)
    ours = _reproduction(section, labels) if section["reproduction"] else el("p", None, name(why))
    theirs = _reported(section) if section["reported"] else None
    return join(el("p", None, says), theirs, el("h4", None, "Ours against theirs"), ours)


def _reported(section: View) -> Html:
    """Published scores, method by task."""
    methods: dict[tuple[str, str, str], dict[str, View]] = {}
    for one in section["reported"]:
        key = (one["method"], one["citation"] or "", one["note"] or "")
        methods.setdefault(key, {})[one["task"]] = one
    known = {one["task"] for one in section["reported"]}
    tasks = [task for task in section["tasks"] if task in known]
    tasks += sorted(known - set(tasks))
    sources = list(dict.fromkeys((citation, note) for _, citation, note in methods))
    lines = []
    for (method, citation, note), found in methods.items():
        number = el("small", None, f"[{sources.index((citation, note)) + 1}]")
        line: list[Child] = [(name(method), " ", number, " ", badge("rep", "reported"))]
        for one in map(found.get, tasks):
            spread = el("small", None, f" ± {one['std']:.1f}") if one and one["std"] is not None else None
            line.append((score(one["score"] if one else None), spread))
        lines.append(line)
    units = ", ".join(sorted({str(one["unit"]).replace("_", " ") for one in section["reported"]}))
    cited = [el("li", None, cite(citation), f" ({note})" if note else None) for citation, note in sources]
    caption = f"Published scores, {units}. ± as published, mostly over seeds"
    return join(grid(caption, ["Method", *map(breakable, tasks)], lines), el("ol", {"class": "cited"}, cited))


def _reproduction(section: View, labels: Mapping[str, str]) -> Html:
    """Ours minus reported, where source and protocol are the same."""
    lines = [
        (
            name(labels.get(one["row"], one["row"])),
            one["task"],
            estimate({"value": one["ours"], "low": one["low"], "high": one["high"], "over": "seeds"}),
            score(one["reported"]),
            el("b", None, ("+" if one["difference"] > 0 else "") + score(one["difference"])),
            (name(one["method"]), ", ", cite(one["citation"])),
        )
        for one in section["reproduction"]
    ]
    heads = ("Row", "Task", "Ours", "Reported", "Difference", "Reported as")
    return grid("Ours minus reported", heads, lines, left=(1, 5))
