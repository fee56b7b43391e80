"""Scores that others published for the same tasks, and ours against them."""

from __future__ import annotations

from collections.abc import Mapping

from backbench.leaderboard.views.page.markup import Child, Html, View, breakable, cite, el, join, name
from backbench.leaderboard.views.page.numbers import NOTHING, score
from backbench.leaderboard.views.page.parts import badge, estimate, grid
from backbench.leaderboard.views.page.words import REPORTED


def published(section: View, labels: Mapping[str, str]) -> Html:
    """Both tables under their headings. ``labels``: row id to label."""
    reported, reproduced = _reported(section), _reproduction(section, labels)
    if reported is None and reproduced is None:
        return el("p", None, "No published scores are known for these tasks on this scale.")
    why = "No difference to reported scores is shown: their data source or protocol differs from ours."
    why = next((note for note in section["notes"] if "reported" in note), why)
    return join(
        el("p", None, REPORTED), reported, el("h4", None, "Ours against theirs"), reproduced or el("p", None, name(why))
    )


def _reported(section: View) -> Html | None:
    """Published scores, method by task."""
    methods: dict[tuple[str, str, str], dict[str, View]] = {}
    for one in section["reported"]:
        key = (one["method"], one["citation"] or "", one["note"] or "")
        methods.setdefault(key, {})[one["task"]] = one
    if not methods:
        return None
    known = {one["task"] for one in section["reported"]}
    tasks = [task for task in section["tasks"] if task in known]
    tasks += sorted(known - set(tasks))
    sources = list(dict.fromkeys((citation, note) for _, citation, note in methods))
    lines = []
    for (method, citation, note), found in methods.items():
        number = el("small", None, f"[{sources.index((citation, note)) + 1}]")
        head = (name(method), " ", number, " ", badge("rep", "reported"))
        line: list[Child] = [head]
        for one in map(found.get, tasks):
            spread = el("small", None, f" ± {one['std']:.1f}") if one and one["std"] is not None else None
            line.append((score(one["score"]) if one else NOTHING, spread))
        lines.append(line)
    units = ", ".join(sorted({str(one["unit"]).replace("_", " ") for one in section["reported"]}))
    cited = [el("li", None, cite(citation), f" ({note})" if note else None) for citation, note in sources]
    caption = f"Published scores, {units}. ± as published, mostly over seeds"
    return join(grid(caption, ["Method", *map(breakable, tasks)], lines), el("ol", {"class": "cited"}, cited))


def _reproduction(section: View, labels: Mapping[str, str]) -> Html | None:
    """Ours minus reported, where source and protocol are the same."""
    if not section["reproduction"]:
        return None
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
