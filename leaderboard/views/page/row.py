"""The page of one row: scores, costs, curves, where it ran, and each record with its commands and episodes."""

import shlex
from collections.abc import Iterable, Mapping, Sequence

from backbench.leaderboard.board import columns
from backbench.leaderboard.views.page import parts
from backbench.leaderboard.views.page.markup import Child, Html, View, cite, el, join, name, page
from backbench.leaderboard.views.page.numbers import UNKNOWN, exact, score
from backbench.leaderboard.views.page.plots import tasks
from backbench.leaderboard.views.page.plots.panel import Style

Cells = Sequence[tuple[str, View]]  # key and cell, with its complete record

LISTED = 20  # most that are shown of a record's list


def row_page(section: View, row: View, cells: View, folder: str | None, repository: str | None) -> str:
    """The page of ``row`` of ``section``. ``cells``: key to cell, of the whole board. ``folder``, ``repository``: see
    ``build``, with paths from this page."""
    found = [(key, cells[key]) for key in _keys(section, row, cells)]
    home = f"../index.html#section={section['id']}"
    title = f"{row['label']} – {section['title']}"
    back = el("a", {"href": home}, "Leaderboard")
    trail = el("nav", {"class": "trail", "aria-label": "Path"}, back, " › ", name(section["title"]))
    above = parts.header(name(row["label"]), el("p", {"class": "badges"}, parts.badges(row)), trail=trail)
    back_home = el("p", None, el("a", {"href": home}, "Back to the leaderboard"))
    below = el("footer", None, back_home, parts.links(repository))
    estimates = row["aggregates"]
    metrics = columns.shown(columns.METRICS, "page") if estimates else ()
    boxes = [
        el("section", {"class": "tree", "aria-label": title}, el("h3", None, title), _tree(row[title.lower()]))
        for title in ("Options", "Model")
    ]
    content = (
        parts.facts((one.title, parts.estimate(estimates[one.key], one.digits)) for one in metrics),
        _scores(section, row),
        _failed(row, found),
        el("h2", None, "Costs and setting"),
        parts.facts(_facts(section, row)),
        _plots(section, row),
        el("h2", None, "Where it ran"),
        _origins(found),
        el("h2", None, "Configuration"),
        el("div", {"class": "columns"}, boxes),
        el("h2", {"id": "records"}, f"Records ({len(found)})"),
        el("p", None, "Each record is one cell. Open one for its commands and everything that it holds."),
        [_record(key, cell, folder) for key, cell in found],
    )
    about = f"Scores, costs and provenance of one row: {title}"
    return page(title, about, "Skip to the row", (above, below), content)


def _keys(section: View, row: View, cells: View) -> list[str]:
    """Keys of the row's records in the order of tasks and seeds."""
    # A record that the row does not name, such as a second one of a cell, still belongs to it.
    mine = {key for key, cell in cells.items() if cell["row"] == row["id"] and cell["section"] == section["id"]}
    order = {task: index for index, task in enumerate(section["tasks"])}

    def rank(key: str) -> tuple[int, int, str]:
        return order.get(cells[key]["task"], len(order)), cells[key]["seed"], key

    return sorted(mine | {key for key in row["records"] if key in cells}, key=rank)


def _scores(section: View, row: View) -> Html:
    lines: list[Sequence[Child]] = []
    for task in section["tasks"]:
        if one := row["scores"].get(task):
            pairs = zip(one["seeds"], one["values"], strict=True)
            seeds = el("span", {"class": "seeds"}, ", ".join(f"s{seed}: {score(value)}" for seed, value in pairs))
            lines.append((task, parts.estimate(one), seeds, score(one["ratio"], 2), exact(one["raw"])))
    heads = ("Task", "Score", "Score of each seed", "× data", "Raw return")
    return join(el("h2", None, "Scores"), parts.grid("Scores by task", heads, lines))


def _failed(row: View, found: Cells) -> Html | None:
    keys = {(cell["task"], cell["seed"]): key for key, cell in found if cell["status"] == "failed"}
    lines: list[Sequence[Child]] = []
    for cell in row["failed"]:
        key = keys.get((cell["task"], cell["seed"]))
        seed = el("a", {"href": f"#record-{key}"}, cell["seed"]) if key else cell["seed"]
        lines.append((cell["task"], seed, name(cell["reason"])))
    table = parts.grid("Cells without a score", ("Task", "Seed", "Reason"), lines, left=(2,))
    return join(el("h2", {"id": "failed"}, f"Failed cells ({len(lines)})"), table) if lines else None


def _facts(section: View, row: View) -> Iterable[tuple[str, Child]]:
    for cost in columns.shown(columns.COSTS, "page"):
        if row["cost"].get(cost.key) is not None:
            yield cost.title, f"{exact(row['cost'][cost.key])} {cost.unit}".strip()
        elif cost.counted and cost.required and row["cells"]:
            yield cost.title, UNKNOWN
    if row["tuning"] is not None:
        said = [
            f"{one['setting']}: {'failed' if one['score'] is None else score(one['score'])}"
            for one in row["tuning"]["trials"]
        ]
        yield f"Trials on {', '.join(row['tuning']['tasks'])}, mean score", name("; ".join(said))
        for one in columns.TUNING:
            yield one.title, f"{exact(row['tuning'][one.key])} {one.unit}"
    yield "Backbone", el("code", None, row["backbone"])
    yield "Differs from the preset in", name(row["variant"]) if row["variant"] else "nothing"
    yield "Suite", f"{section['suite']}, data {section['source']}, preset {section['preset']}"
    yield "Protocol", parts.protocol(section)
    yield "Scale of scores", cite(section["citation"] or str(section["normaliser"]))
    yield "Seeds with every task", ", ".join(map(str, row["seeds"])) or "none"
    yield "Kinds of machines", str(row["machines"])
    if row["agreement"] is not None:
        yield "Other seeds on another machine", parts.agreement(row["agreement"])
    yield "Cells that another machine ran again, equal", f"{row['reproduced_cells']} of {row['cells']}"
    if row["missing"]:
        yield "Lacks", ", ".join(row["missing"])


def _plots(section: View, row: View) -> Html | None:
    styles = {row["id"]: Style(row["id"], row["label"], 0)}
    losses = tasks.courses("curves", section, [row], styles, detailed=True)
    shown = [
        parts.figure("Training loss: mean, smallest and largest seed", losses, level="h3"),
        parts.figure("Score during training", tasks.courses("evaluations", section, [row], styles), level="h3"),
        parts.figure("Return against target return", tasks.targets(section, [row], styles), level="h3"),
    ]
    return el("div", {"class": "plots"}, el("h2", None, "Plots"), shown) if any(shown) else None


def _origins(found: Cells) -> Html:
    """Hardware, versions, commit and data of the records. Each value is shown once, however many records share it."""
    values: dict[str, dict[str, None]] = {}
    for _, cell in found:
        origin, data = cell["record"]["provenance"], cell["record"]["identity"].get("data") or {}
        hardware = origin.get("hardware") or {}
        machine = f"{hardware.get('cpu')}, {hardware.get('cores')} cores, threads used: {origin.get('threads')}"
        commit = str(origin.get("git_commit") or "no commit")[:12]
        about = {
            "Hardware": machine + (f", {hardware['gpu']}" if hardware.get("gpu") else ""),
            "Computed on": f"{origin.get('device')}, {origin.get('dtype')}",
            "Kernels": ", ".join(f"{key}: {kind}" for key, kind in sorted((origin.get("kernels") or {}).items())),
            "Versions": ", ".join(f"{key} {one}" for key, one in sorted((origin.get("packages") or {}).items())),
            "Commit": commit + (", changed" if origin.get("git_dirty") else ""),
            "Data": f"{data.get('id')}: sha256 {data['sha256']}" if data.get("sha256") else "",
        }
        for title, value in about.items():
            if value:
                values.setdefault(title, {})[value] = None
    shown = {title: [el("div", None, name(one)) for one in several] for title, several in values.items()}
    return parts.facts(shown.items(), "facts ran")


def _record(key: str, cell: View, folder: str | None) -> Html:
    """The record of ``cell``, folded. ``folder``: where records are committed, below the repository's root."""
    record = cell["record"]
    failed = cell["status"] == "failed"
    result = el("span", {"class": "bad" if failed else "good"}, "failed" if failed else f"score {score(cell['score'])}")
    head = join(el("b", None, cell["task"]), f", seed {cell['seed']}: ", result, " ", el("code", None, key))
    made_by = _command("Made by", record["provenance"]["command"])
    everything = parts.fold("All fields of the record", el("div", {"class": "tree"}, _tree(record)))
    content = _reproduce(key, record, folder), made_by, _episodes(record), everything
    return parts.fold(head, content, **{"class": "record", "id": f"record-{key}"})


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
    """Return and length of the first episodes, of the last checkpoint and of the best one."""
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
        played = max(len(one["returns"]) for one in targets)
        for index in range(min(played, LISTED)):
            pairs = [(score(one["returns"][index], 2), one["lengths"][index]) for one in targets]
            lines.append([str(index), *(each for pair in pairs for each in pair)])
        which_of = "Every episode" if played <= LISTED else f"{LISTED} of {played} episodes (the record has all)"
        caption = f"{which_of}, {which} checkpoint, step {checkpoint['step']:,}"
        tables.append(parts.grid(caption, heads, [*lines, means], kind="sums"))
    return join(tables)


def _tree(value: object) -> Html:
    """Nested mappings as nested lists of names and values; lists of scalars on one line, long ones by their start."""
    if isinstance(value, Mapping) and value:
        return el("dl", None, [(el("dt", None, key), el("dd", None, _tree(item))) for key, item in value.items()])
    if isinstance(value, bool):
        return name("true" if value else "false")
    if value is None or isinstance(value, Mapping):
        return el("span", {"class": "none"}, "none")
    if isinstance(value, list | tuple):
        some, rest = value[:LISTED], f", … ({len(value):,} in all)" if len(value) > LISTED else ""
        if all(isinstance(item, int | float | str) for item in value):
            return name((", ".join(map(str, some)) or "none") + rest)
        if all(isinstance(item, list | tuple) for item in value):
            return name(("; ".join(" ".join(map(str, item)) for item in some) or "none") + rest)
        return el("ol", None, [el("li", None, _tree(item)) for item in value])
    return name(value)
