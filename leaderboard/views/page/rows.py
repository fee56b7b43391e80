"""The page of one row: its scores and costs, its curves, and every record of it with the commands that repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from backbench.leaderboard.board import columns
from backbench.leaderboard.views.page import plots
from backbench.leaderboard.views.page.markup import Child, Html, cite, document, el, join, name
from backbench.leaderboard.views.page.panel import Look
from backbench.leaderboard.views.page.scales import NOTHING, exact, minus, points
from backbench.leaderboard.views.page.table import badges, estimate, scroll
from backbench.leaderboard.views.page.words import protocol

Content = Mapping[str, Any]


def row_page(section: Content, row: Content, cells: Content, folder: str | None = None) -> str:
    """The page of ``row`` of ``section``; ``cells``: key -> cell, with the whole records; ``folder``: where the records
    are committed, below the root of a repository."""
    look = Look(row["id"], row["label"], 0)
    found = [(key, cells[key]) for key in _keys(section, row, cells)]
    body = join(
        el("a", {"class": "skip", "href": "#main"}, "Skip to the row"),
        _header(section, row),
        el(
            "main",
            {"id": "main", "tabindex": "-1"},
            _summary(section, row),
            _scores(section, row),
            _failed(row, found),
            _plots(section, row, look),
            _ran(found),
            el("h2", None, "Configuration"),
            el(
                "div",
                {"class": "columns"},
                _box("Options of the backbone", row["options"]),
                _box("Model around it", row["model"]),
            ),
            el("h2", {"id": "records"}, f"Records ({len(found)})"),
            el("p", None, "Each is one cell, with everything that the record says of itself."),
            [_record(key, cell, folder) for key, cell in found],
        ),
        el("footer", None, el("p", None, el("a", {"href": _home(section)}, "Back to the leaderboard"))),
    )
    title = f"{row['label']} – {section['title']}"
    return document(title, f"Scores, costs and provenance of one row: {title}", body)


def _keys(section: Content, row: Content, cells: Content) -> list[str]:
    """Keys of the row's records in the order of tasks and seeds."""
    # A record that the row does not name, such as one that came second for its cell, belongs to it all the same.
    mine = {key for key, cell in cells.items() if cell["row"] == row["id"] and cell["section"] == section["id"]}
    order = {task: index for index, task in enumerate(section["tasks"])}

    def place(key: str) -> tuple[int, int, str]:
        return order.get(cells[key]["task"], len(order)), cells[key]["seed"], key

    return sorted(mine | {key for key in row["records"] if key in cells}, key=place)


def _header(section: Content, row: Content) -> Html:
    theme = el("button", {"type": "button", "id": "theme", "class": "js-only"}, "Dark")
    back = el("a", {"href": _home(section)}, "Leaderboard")
    return el(
        "header",
        {"class": "top"},
        el("nav", {"class": "trail", "aria-label": "Path"}, back, " › ", name(section["title"])),
        el("div", {"class": "bar"}, el("h1", None, name(row["label"])), theme),
        el("p", {"class": "badges"}, badges(row)),
    )


def _home(section: Content) -> str:
    return f"../index.html#section={section['id']}"


def _summary(section: Content, row: Content) -> Html:
    facts: list[tuple[str, Child]] = [
        ("Backbone", el("code", None, row["backbone"])),
        ("Differs from the preset in", name(row["variant"]) if row["variant"] else "nothing"),
        ("Suite", f"{section['suite']}, data {section['source']}, preset {section['preset']}"),
        ("Protocol", protocol(section)),
        ("Points", cite(section["citation"] or str(section["normaliser"]))),
        ("Seeds with every task", ", ".join(map(str, row["seeds"])) or "none"),
        ("Cells verified by a second machine", f"{row['verified_cells']} of {row['cells']}"),
    ]
    if row["missing"]:
        facts.append(("Lacks", ", ".join(row["missing"])))
    if row["aggregates"]:
        for measure in columns.shown(columns.METRICS, "page"):
            facts.append((measure.title, estimate(row["aggregates"][measure.key], measure.digits)))
    for cost in columns.shown(columns.COSTS, "page"):
        if row["cost"].get(cost.key) is not None:
            facts.append((cost.title, f"{exact(row['cost'][cost.key])} {cost.unit}".strip()))
    return el(
        "dl", {"class": "facts"}, [el("div", None, el("dt", None, key), el("dd", None, value)) for key, value in facts]
    )


def _scores(section: Content, row: Content) -> Html:
    heads = ("Task", "Score", "Each seed, points", "× data", "Raw return")
    lines = []
    for task in section["tasks"]:
        one = row["scores"].get(task)
        if one is None:
            continue
        seeds = ", ".join(f"s{seed}: {points(value)}" for seed, value in zip(one["seeds"], one["values"], strict=True))
        cells: list[Child] = [
            estimate(one),
            el("span", {"class": "seeds"}, seeds),
            NOTHING if one["ratio"] is None else minus(f"{one['ratio']:.2f}"),
            exact(one["raw"]),
        ]
        lines.append(el("tr", None, el("th", {"scope": "row"}, task), [el("td", None, cell) for cell in cells]))
    head = el("tr", None, [el("th", {"scope": "col"}, head) for head in heads])
    return join(el("h2", None, "Scores"), scroll("Scores by task", head, lines))


def _failed(row: Content, found: Sequence[tuple[str, Content]]) -> Html | None:
    if not row["failed"]:
        return None
    keys = {(cell["task"], cell["seed"]): key for key, cell in found if cell["status"] == "failed"}
    lines = []
    for cell in row["failed"]:
        key = keys.get((cell["task"], cell["seed"]))
        seed: Child = str(cell["seed"])
        if key is not None:
            seed = el("a", {"href": f"#{_anchor(key)}"}, seed)
        reason = el("td", {"class": "left"}, name(cell["reason"]))
        lines.append(el("tr", None, el("th", {"scope": "row"}, cell["task"]), el("td", None, seed), reason))
    head = el("tr", None, [el("th", {"scope": "col"}, head) for head in ("Task", "Seed", "Reason")])
    return join(
        el("h2", {"id": "failed"}, f"Failed cells ({len(lines)})"), scroll("Cells without a score", head, lines)
    )


def _plots(section: Content, row: Content, look: Look) -> Html | None:
    looks = {row["id"]: look}
    groups = [
        (
            "Training loss, mean over seeds; the band is smallest to largest",
            plots.curves(section, [row], looks, bands=True, most=200),
        ),
        ("Score during training", plots.evaluations(section, [row], looks)),
        ("Return against target return", plots.targets(section, [row], looks)),
    ]
    shown = [
        el(
            "section",
            {"class": "figure", "aria-label": title},
            el("h3", None, title),
            el("div", {"class": "panels"}, panels),
        )
        for title, panels in groups
        if panels
    ]
    return el("div", {"class": "plots"}, el("h2", None, "Plots"), shown) if shown else None


def _ran(found: Sequence[tuple[str, Content]]) -> Html:
    """Where and with what the records were made: each value once, however many records have it."""
    values: dict[str, dict[str, None]] = {}
    for _, cell in found:
        origin, data = cell["record"]["provenance"], cell["record"]["identity"].get("data") or {}
        hardware = origin.get("hardware") or {}
        machine = f"{hardware.get('cpu')}, {hardware.get('cores')} cores, threads used: {origin.get('threads')}"
        commit = str(origin.get("git_commit") or "no commit")[:12] + (", changed" if origin.get("git_dirty") else "")
        parts = {
            "Hardware": machine + (f", {hardware['gpu']}" if hardware.get("gpu") else ""),
            "Computed on": f"{origin.get('device')}, {origin.get('dtype')}",
            "Kernels": ", ".join(f"{key}: {kind}" for key, kind in sorted((origin.get("kernels") or {}).items())),
            "Versions": ", ".join(f"{key} {one}" for key, one in sorted((origin.get("packages") or {}).items())),
            "Commit": commit,
            "Data": f"{data.get('id')}: sha256 {data['sha256']}" if data.get("sha256") else "",
        }
        for title, value in parts.items():
            if value:
                values.setdefault(title, {})[value] = None
    facts = [
        el("div", None, el("dt", None, title), el("dd", None, [el("div", None, name(one)) for one in several]))
        for title, several in values.items()
    ]
    return join(el("h2", None, "Where it ran"), el("dl", {"class": "facts ran"}, facts))


def _record(key: str, cell: Content, folder: str | None) -> Html:
    record = cell["record"]
    failed = cell["status"] == "failed"
    score = "failed" if failed else f"{points(cell['score'])} points"
    head = el(
        "summary",
        None,
        el("b", None, cell["task"]),
        f", seed {cell['seed']}: ",
        el("span", {"class": "bad" if failed else "good"}, score),
        " ",
        el("code", None, key),
    )
    return el(
        "details",
        {"class": "record", "id": _anchor(key)},
        head,
        _reproduce(key, record, folder),
        _command("Made by", record["provenance"]["command"]),
        _episodes(record),
        el("details", None, el("summary", None, "The whole record"), el("div", {"class": "tree"}, _tree(record))),
    )


def _reproduce(key: str, record: Content, folder: str | None) -> Html:
    if record["failure"] is not None:
        return el("p", None, "A failed cell has no score to reproduce.")
    suite = record["identity"]["suite"]
    path = f"{key}.json" if folder is None else f"{folder}/{suite}/{key}.json"
    where = "" if folder is None else ", from the repository’s root"
    commit = record["provenance"].get("git_commit")
    code = f" (made at commit {commit})" if commit else ""
    return _command(f"Reproduce it{where}{code}", "bench reproduce " + shlex.quote(path))


def _command(title: str, command: str) -> Html:
    copy = el("button", {"type": "button", "class": "copy js-only"}, "Copy")
    return el(
        "div",
        {"class": "command"},
        el("p", None, title),
        el("div", None, el("pre", {"tabindex": "0", "aria-label": title}, el("code", None, command)), copy),
    )


def _episodes(record: Content) -> Html | None:
    """Every episode's return, of the last checkpoint and of the best one."""
    parts = []
    for which in ("last", "best"):
        checkpoint = (record["scores"] or {}).get(which)
        if not checkpoint:
            continue
        columns = checkpoint["targets"]
        heads: list[Html] = [el("th", {"scope": "col"}, "Episode")]
        for one in columns:
            heads.append(el("th", {"scope": "col"}, f"return, asked for {one['target']:g}"))
            heads.append(el("th", {"scope": "col"}, "length"))
        lines = []
        for index in range(max(len(one["returns"]) for one in columns)):
            values: list[str] = []
            for one in columns:
                values += [minus(f"{one['returns'][index]:.2f}"), str(one["lengths"][index])]
            lines.append(
                el("tr", None, el("th", {"scope": "row"}, str(index)), [el("td", None, value) for value in values])
            )
        means: list[str] = []
        for one in columns:
            means += [_mean(one), ""]
        lines.append(
            el("tr", {"class": "sum"}, el("th", {"scope": "row"}, "mean"), [el("td", None, value) for value in means])
        )
        parts.append(
            scroll(f"Every episode, {which} checkpoint, step {checkpoint['step']:,}", el("tr", None, heads), lines)
        )
    return join(parts) if parts else None


def _mean(one: Content) -> str:
    return f"{minus(format(one['raw_mean'], '.2f'))} ({points(one['normalised_mean'])} points)"


def _box(title: str, content: object) -> Html:
    return el("section", {"class": "tree", "aria-label": title}, el("h3", None, title), _tree(content))


def _tree(value: object) -> Html:
    """Nested mappings as nested lists of names and values; lists of numbers in a line."""
    if isinstance(value, Mapping):
        if not value:
            return el("span", {"class": "none"}, "none")
        return el("dl", None, [(el("dt", None, key), el("dd", None, _tree(item))) for key, item in value.items()])
    if isinstance(value, list | tuple):
        if all(isinstance(item, int | float | str) for item in value):
            return name(", ".join(str(item) for item in value) or "none")
        if all(isinstance(item, list | tuple) for item in value):
            return name("; ".join(" ".join(str(part) for part in item) for item in value) or "none")
        return el("ol", None, [el("li", None, _tree(item)) for item in value])
    if value is None:
        return el("span", {"class": "none"}, "none")
    if isinstance(value, bool):
        return name("true" if value else "false")
    return name(value)


def _anchor(key: str) -> str:
    return f"record-{key}"
