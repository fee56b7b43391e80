"""Head and foot of index.html, and the switches between its tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from backbench.leaderboard.views.page import parts, words
from backbench.leaderboard.views.page.markup import Child, Html, View, el, json_script, name

SWITCHES = {"suite": "Suite", "source": "Data", "preset": "Preset", "acting": "Acting", "sampling": "Sampling"}
EXAMPLE = "bench run --backbone transformer,mamba --suite d4rl\nbench submit results\nmake leaderboard"


def header(repository: str | None) -> Html:
    """Title, purpose, links and the closed explanation of the scores."""
    legend: list[tuple[Child, Child]] = [
        ("What is compared", words.COMPARED),
        ("Scores", words.SCORES),
        ("Intervals", words.coverage()),
        ("Settings", words.SETTINGS),
        ("Size", words.SIZE),
        (parts.badge("ok", "✓ verified"), words.VERIFIED),
        (parts.badge("self", "self-reported"), words.SELF_REPORTED),
        (parts.badge("control", "control"), words.CONTROL),
    ]
    about = parts.fold("How to read the scores", parts.facts(legend, "legend"), **{"class": "about"})
    lead = el("p", {"class": "lead"}, words.PURPOSE)
    return parts.header("Backbench leaderboard", lead, parts.links(repository) if repository else None, about)


def footer(view: View, repository: str | None) -> Html:
    """What the page was made from, and the same numbers as files."""
    count = f"{view['records']:,} record{'' if view['records'] == 1 else 's'}"
    digest = el("code", {"title": view["digest"]}, view["digest"][:16])
    files = [(el("a", {"href": file}, file), " ") for file in ("board.md", "board.csv", "board.json")]
    source = el("p", None, "Made from ", el("b", None, count), ", digest ", digest, ". Equal records give equal bytes.")
    same = el("p", None, "This page loads nothing. The same numbers: ", files)
    return el("footer", None, source, same, None if repository else parts.links(None))


def empty() -> Html:
    """What stands in the place of tables before there are records."""
    says = "A record is one finished cell: a backbone, a task and a seed. To run cells and submit them:"
    example = el("pre", None, el("code", None, EXAMPLE))
    return el("section", {"class": "empty"}, el("h2", None, "No records yet"), el("p", None, says), example)


def switches(sections: Sequence[View]) -> Html:
    """Links to the sections. The script shows a group of buttons for each setting instead."""
    seen: Counter[tuple[str, ...]] = Counter()
    entries: list[dict[str, str]] = []
    for section in sections:
        values = {key: str(section[key]) for key in SWITCHES}
        seen[tuple(values.values())] += 1
        entries.append({"id": section["id"], **values, "table": str(seen[tuple(values.values())])})
    groups = []
    for key, title in {**SWITCHES, "table": "Table"}.items():
        found = list(dict.fromkeys(entry[key] for entry in entries))
        if len(found) > 1:
            radio = {"type": "radio", "name": key}
            choices = [parts.choice(name(one), {**radio, "value": one, "checked": one == found[0]}) for one in found]
            groups.append(el("fieldset", None, el("legend", None, title), el("div", {"class": "choices"}, choices)))
    links = [el("li", None, el("a", {"href": f"#{section['id']}"}, name(section["title"]))) for section in sections]
    return el(
        "nav",
        {"aria-label": "Tables"},
        el("ul", {"class": "contents"}, links) if len(sections) > 1 else None,
        el("form", {"class": "switches js-only", "id": "switches"}, groups),
        json_script("sections", entries),
    )
