"""One record on the page of its row: commands, every episode, and all that the record holds."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from backbench.leaderboard.views.page.markup import Html, View, el, join, name
from backbench.leaderboard.views.page.numbers import score
from backbench.leaderboard.views.page.parts import fold, grid


def record_part(key: str, cell: View, folder: str | None) -> Html:
    """The record of ``cell``, folded. ``folder``: where records are committed, below the repository's root."""
    record = cell["record"]
    failed = cell["status"] == "failed"
    result = el("span", {"class": "bad" if failed else "good"}, "failed" if failed else f"score {score(cell['score'])}")
    head = join(el("b", None, cell["task"]), f", seed {cell['seed']}: ", result, " ", el("code", None, key))
    made_by = _command("Made by", record["provenance"]["command"])
    everything = fold("The complete record", el("div", {"class": "tree"}, tree(record)))
    content = _reproduce(key, record, folder), made_by, _episodes(record), everything
    return fold(head, content, **{"class": "record", "id": f"record-{key}"})


def _reproduce(key: str, record: View, folder: str | None) -> Html:
    if record["failure"] is not None:
        return el("p", None, "A failed cell has no score to reproduce.")
    path, where = f"{key}.json", ""
    if folder is not None:
        path, where = f"{folder}/{record['identity']['suite']}/{path}", ", from the repository’s root"
    commit = record["provenance"].get("git_commit")
    code = f" (made at commit {commit})" if commit else ""
    return _command(f"Reproduce it{where}{code}", "bench reproduce " + shlex.quote(path))


def _command(title: str, command: str) -> Html:
    copy = el("button", {"type": "button", "class": "copy js-only"}, "Copy")
    code = el("pre", {"tabindex": "0", "aria-label": title}, el("code", None, command))
    return el("div", {"class": "command"}, el("p", None, title), el("div", None, code, copy))


def _episodes(record: View) -> Html:
    """Return and length of every episode, of the last checkpoint and of the best one."""
    scores, tables = record["scores"] or {}, []
    for which in ("last", "best"):
        if not (checkpoint := scores.get(which)):
            continue
        targets = checkpoint["targets"]
        heads, means = ["Episode"], ["mean"]
        for one in targets:
            heads += [f"return, target {one['target']:g}", "length"]
            means += [f"{score(one['raw_mean'], 2)} (score {score(one['normalised_mean'])})", ""]
        lines = []
        for index in range(max(len(one["returns"]) for one in targets)):
            pairs = [(score(one["returns"][index], 2), one["lengths"][index]) for one in targets]
            lines.append([str(index), *(each for pair in pairs for each in pair)])
        caption = f"Every episode, {which} checkpoint, step {checkpoint['step']:,}"
        tables.append(grid(caption, heads, [*lines, means], kind="sums"))
    return join(tables)


def tree(value: object) -> Html:
    """Nested mappings as nested lists of names and values; lists of scalars on one line."""
    if isinstance(value, Mapping) and value:
        return el("dl", None, [(el("dt", None, key), el("dd", None, tree(item))) for key, item in value.items()])
    if isinstance(value, bool):
        return name("true" if value else "false")
    if value is None or isinstance(value, Mapping):
        return el("span", {"class": "none"}, "none")
    if isinstance(value, list | tuple):
        if all(isinstance(item, int | float | str) for item in value):
            return name(", ".join(str(item) for item in value) or "none")
        if all(isinstance(item, list | tuple) for item in value):
            return name("; ".join(" ".join(str(part) for part in item) for item in value) or "none")
        return el("ol", None, [el("li", None, tree(item)) for item in value])
    return name(value)
