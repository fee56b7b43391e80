"""Scores that others published for the same tasks, and ours against them."""

from __future__ import annotations

from collections.abc import Mapping

from backbench.leaderboard.views.page.markup import Child, Html, View, breakable, cite, el, join, name
from backbench.leaderboard.views.page.numbers import score
from backbench.leaderboard.views.page.parts import badge, estimate, grid


def published(section: View, labels: Mapping[str, str]) -> Html:
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
