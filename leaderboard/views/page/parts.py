"""Pieces that several pages and sections share: folds, tables that scroll, lists of facts, estimates and badges."""

from collections.abc import Collection, Iterable, Sequence

from backbench.leaderboard.views.page.markup import Child, Html, View, el, join, name
from backbench.leaderboard.views.page.numbers import minus

BOARD = "docs/board.md"  # it reads the committed board, so only pages in the repository link to it
DOCUMENTS = {"docs/README.md": "Docs", BOARD: "Reading this board", "CONTRIBUTING.md#submit-records": "Submit records"}
# Trust of a row -> kind of badge, mark, and what it means.
TRUST = {
    "verified": ("ok", "✓ ", "A second machine ran other seeds. The difference in mean lies within the margin."),
    "consistent": (
        "self",
        "≈ ",
        "A second machine ran other seeds. The means may differ by more than the margin, or not.",
    ),
    "different": ("warn", "≠ ", "A second machine ran other seeds, and their mean differs."),
    "reproduced": ("ok", "= ", "A second machine ran these cells again from their records and got the same scores."),
    "self-reported": ("self", "", "One kind of machine ran these cells. No second one has confirmed all of them."),
}
CONTROLS = {
    "identity": "mixes nothing: it never sees the target return",
    "mlp": "mixes within one step only",
    "%BC": "clones the best steps of the data and never sees the target return: what filtering the data is worth",
}
MARKS = {
    "e": "over the episodes of a single seed",
    "w": "Wilson’s interval of a rate of successes, over one seed’s episodes",
}


def fold(summary: Child, *content: Child, **attrs: object) -> Html:
    """A closed ``details``: one line until the reader opens it."""
    return el("details", attrs, el("summary", None, summary), *content)


def warning(says: Child) -> Html:
    """A sentence that a reader must not miss."""
    return el("p", {"class": "warn"}, says)


def facts(items: Iterable[tuple[Child, Child]], kind: str = "facts") -> Html:
    """Names with their values."""
    return el("dl", {"class": kind}, [el("div", None, el("dt", None, key), el("dd", None, one)) for key, one in items])


def scroll(label: str, table: Html) -> Html:
    """``table`` in a box that scrolls by itself, also with the keyboard."""
    return el("div", {"class": "scroll", "tabindex": "0", "role": "region", "aria-label": label}, table)


def grid(
    caption: str, heads: Sequence[Child], lines: Iterable[Sequence[Child]], left: Collection[int] = (), kind: str = ""
) -> Html:
    """A table whose first column names its lines. ``left``: indices of columns that hold words instead of numbers."""
    sides = [{"class": "left"} if index in left else {} for index in range(len(heads))]
    head = [el("th", {"scope": "col", **side}, title) for side, title in zip(sides, heads, strict=True)]
    body = []
    for first, *others in lines:
        cells = [el("td", side, cell) for side, cell in zip(sides[1:], others, strict=True)]
        body.append(el("tr", None, el("th", {"scope": "row"}, first), cells))
    content = el("caption", None, caption), el("thead", None, el("tr", None, head)), el("tbody", None, body)
    return scroll(caption, el("table", {"class": f"plain {kind}".strip()}, content))


def row_attributes(row: View) -> View:
    """What the script filters, sorts and groups a line of a table by."""
    named = f"{row['label']} {row['backbone']} {row['variant']} {row['mechanism']}".lower()
    return {"data-row": row["id"], "data-name": named, "data-group": row["mechanism"]}


def figure(
    title: str, panels: Sequence[Html], says: str = "", more: Child = None, *, kind: str = "", level: str = "h4"
) -> Html | None:
    """Plots below their title and what it ``says``; None without ``panels``. ``kind``: a CSS class for their size."""
    about = el("p", None, says) if says else None, more
    plots = el("div", {"class": f"panels {kind}".strip()}, panels)
    attrs = {"class": "figure", "aria-label": title}
    return el("section", attrs, el(level, None, title), about, plots) if panels else None


def estimate(one: View, digits: int = 1) -> Html:
    """A value with its interval. ``e`` marks an interval over episodes only, ``w`` Wilson's of a rate."""
    main = el("b", None, minus(f"{one['value']:.{digits}f}"))
    if one["low"] is None or one["high"] is None:
        return main
    low, high = (minus(f"{one[end]:.{digits}f}") for end in ("low", "high"))
    kind = "w" if one.get("method") == "wilson" else "e" if one["over"] == "episodes" else None
    mark = el("abbr", {"title": MARKS[kind]}, kind) if kind else None
    return join(main, " ", el("small", None, f"[{low}, {high}]", mark))


def badge(kind: str, content: Child, title: str | None = None) -> Html:
    return el("span", {"class": f"badge {kind}", "title": title}, content)


def badges(row: View) -> Html:
    """What confirms the row, and whether it is a control, or matched to another in size."""
    kind, mark, says = TRUST[row["trust"]]
    some = (
        f" {row['reproduced_cells']} of {row['cells']} cells were run again elsewhere."
        if row["reproduced_cells"]
        else ""
    )
    several = f" {row['machines']} kinds of machines, {len(row['seeds'])} seeds." if row["machines"] > 1 else ""
    parts = [badge(kind, mark + row["trust"], says + several + some)]
    if row["control"] is not None:
        content = "control" if row["control"] == row["backbone"] else f"control {row['control']}"
        parts.append(badge("control", content, CONTROLS[row["control"]]))
    if row["matched"]:
        says = "Its width was chosen to give it as many parameters as the reference."
        parts.append(badge("match", ("matched to ", name(row["matched"])), says))
    return join([(part, " ") for part in parts])


def agreement(found: View) -> str:
    """The difference between the seeds of two machines, in words."""
    first, others = found["seeds"]
    low, high = (minus(f"{found[end]:+.1f}") for end in ("low", "high"))
    return f"difference {minus(format(found['difference'], '+.1f'))} [{low}, {high}], {first} seeds against {others}"


def protocol(section: View) -> str:
    """How every row of a section was evaluated."""
    acting, episodes = f"{section['acting']} acting, {section['sampling']}", section["episodes"]
    return f"{acting}, {episodes} episodes per target, evaluation seed {section['eval_seed']}"


def header(title: Child, *below: Child, trail: Child = None) -> Html:
    """The head of a page: links back (``trail``), the title with the button for the theme, and what is ``below``."""
    theme = el("button", {"type": "button", "id": "theme", "class": "js-only"}, "Dark")
    return el("header", {"class": "top"}, trail, el("div", {"class": "bar"}, el("h1", None, title), theme), *below)


def choice(content: Child, attrs: View) -> Html:
    """A button that is pressed or not: an ``input`` with ``attrs``, and what it says."""
    return el("label", None, el("input", attrs), el("span", None, content))


def links(repository: str | None) -> Html:
    """To the documentation and to how to submit. ``repository``: path from the page to the repository's root; where
    there is none the files are named, without links."""
    parts = []
    for file, says in DOCUMENTS.items():
        if repository is not None:
            parts.append(el("li", None, el("a", {"href": f"{repository}/{file}"}, says)))
        elif file != BOARD:
            parts.append(el("li", None, f"{says}: ", el("code", None, file.partition("#")[0]), " in the repository"))
    return el("nav", {"class": "links", "aria-label": "Documentation"}, el("ul", None, parts))
