"""What stands above the tables of index.html and below them, and the switches between tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backbench.leaderboard.views.page.markup import Html, el, json_script, name
from backbench.leaderboard.views.page.words import PURPOSE, SCORES, SELF_REPORTED, TERMS, VERIFIED, coverage

SWITCHES = {"suite": "Suite", "source": "Data", "preset": "Preset", "acting": "Acting", "sampling": "Sampling"}

View = Mapping[str, Any]


def header(view: View) -> Html:
    records = view["records"]
    count = f"{records:,} record{'' if records == 1 else 's'}"
    legend = el(
        "dl",
        {"class": "legend"},
        el("dt", None, el("span", {"class": "badge ok"}, "✓ verified")),
        el("dd", None, VERIFIED),
        el("dt", None, el("span", {"class": "badge self"}, "self-reported")),
        el("dd", None, SELF_REPORTED),
        el("dt", None, el("span", {"class": "badge control"}, "control")),
        el("dd", None, "What a backbone's mixing is worth is the difference to these."),
        el("dt", None, "Scores"),
        el("dd", None, SCORES),
        el("dt", None, "Words"),
        el("dd", None, TERMS),
        el("dt", None, "Intervals"),
        el("dd", None, coverage()),
    )
    theme = el("button", {"type": "button", "id": "theme", "class": "js-only"}, "Dark")
    return el(
        "header",
        {"class": "top"},
        el("div", {"class": "bar"}, el("h1", None, "Backbench leaderboard"), theme),
        el("p", {"class": "lead"}, PURPOSE),
        el(
            "p",
            {"class": "meta"},
            el("b", None, count),
            " · digest ",
            el("code", {"title": view["digest"]}, view["digest"][:16]),
        ),
        el("details", {"class": "about", "open": True}, el("summary", None, "How to read it"), legend),
    )


def footer() -> Html:
    says = (
        "Made from the records alone, without a clock: the same records give this page byte for byte. It "
        "loads nothing from anywhere."
    )
    links = [el("a", {"href": file}, file) for file in ("board.md", "board.csv", "board.json")]
    return el(
        "footer",
        None,
        el("p", None, says),
        el("p", None, "The same numbers: ", [(link, " ") for link in links]),
    )


def nothing() -> Html:
    return el(
        "section",
        {"class": "empty"},
        el("h2", None, "No records yet"),
        el("p", None, "A record is one finished cell: a backbone, a task and a seed. To make some and put them here:"),
        el(
            "pre",
            None,
            el(
                "code",
                None,
                "bench run --backbone transformer,mamba --suite d4rl\nbench submit results\nmake leaderboard",
            ),
        ),
    )


def _numbers(sections: Sequence[View]) -> list[str]:
    """For each section which one it is of those that every switch has alike."""
    seen: dict[tuple[str, ...], int] = {}
    numbers = []
    for section in sections:
        key = tuple(str(section[switch]) for switch in SWITCHES)
        seen[key] = seen.get(key, 0) + 1
        numbers.append(str(seen[key]))
    return numbers


def switches(sections: Sequence[View]) -> Html:
    """Links to the sections, and in their place, where there is a script, a group of buttons for each setting."""
    numbers = _numbers(sections)
    entries: list[dict[str, str]] = [
        {"id": section["id"], **{key: str(section[key]) for key in SWITCHES}, "table": number}
        for section, number in zip(sections, numbers, strict=True)
    ]
    groups = []
    for key, title in {**SWITCHES, "table": "Table"}.items():
        values = list(dict.fromkeys(entry[key] for entry in entries))
        if key == "table" and len(values) == 1:
            continue
        choices = [
            el(
                "label",
                None,
                el("input", {"type": "radio", "name": key, "value": value, "checked": value == entries[0][key]}),
                el("span", None, name(value)),
            )
            for value in values
        ]
        if len(values) == 1:  # nothing to choose
            choices = [el("span", {"class": "only"}, name(values[0]))]
        groups.append(el("fieldset", None, el("legend", None, title), el("div", {"class": "choices"}, choices)))
    links = [el("li", None, el("a", {"href": f"#{section['id']}"}, name(section["title"]))) for section in sections]
    return el(
        "nav",
        {"aria-label": "Tables"},
        el("ul", {"class": "contents"}, links),
        el("form", {"class": "switches js-only", "id": "switches"}, groups),
        json_script("sections", entries),
    )
