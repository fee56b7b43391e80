"""A view as LaTeX tables for a paper: booktabs, intervals, and bold where a comparison is decided."""

from collections.abc import Mapping, Sequence
from typing import Any

from backbench.leaderboard.board import columns

View = Mapping[str, Any]

WIDEST = 8  # columns of rows; with more rows, rows are lines
_SPECIAL = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
        "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
        "|": r"\textbar{}", '"': "''", "`": r"\textasciigrave{}",
    }
)  # fmt: skip
PREAMBLE = r"""% Needs: \usepackage{booktabs}
% \bbint sets an interval; redefine it to leave intervals out. A table that is still too wide: \resizebox of graphicx.
\providecommand{\bbint}[2]{{\scriptsize\,[#1, #2]}}
"""


def to_latex(view: View) -> str:
    """One ``table`` for each section, and a comment with the digest of the records."""
    origin = f"% {view['records']} records, digest {view['digest']}\n"
    return "\n".join([PREAMBLE + origin, *(_table(section) for section in view["sections"])])


def escaped(text: str) -> str:
    """``text`` for LaTeX; line ends and control characters become spaces, so that no name ends a comment."""
    return "".join(one if one.isprintable() else " " for one in text).translate(_SPECIAL)


def _table(section: View) -> str:
    metrics = [one for one in columns.METRICS if one.key in ("iqm", "mean")]
    rows = section["rows"]
    best = _bold(section)
    names = [*section["tasks"], *(one.key for one in metrics)]
    titles = [*section["tasks"], *(one.title for one in metrics)]
    titled = zip(titles, names, strict=True)
    lines = [[escaped(title), *(_cell(row, name, best) for row in rows)] for title, name in titled]
    head = ["", *map(escaped, _labels(rows))]
    if len(rows) > WIDEST:
        head, *lines = [list(one) for one in zip(head, *lines, strict=True)]
    body = [" & ".join(line) + r" \\" for line in lines]
    if len(rows) <= WIDEST:
        body.insert(len(section["tasks"]), r"\midrule")
    about = [rf"\caption{{{_caption(section)}}}", rf"\label{{tab:{section['id']}}}"]
    about = [r"\scriptsize", *about] if len(head) > WIDEST else about
    return "\n".join(
        [
            r"\begin{table}", r"\centering", *about,
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule", " & ".join(head) + r" \\", r"\midrule",
            *body, r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
        ]
    )  # fmt: skip


def _labels(rows: Sequence[View]) -> list[str]:
    """Names of backbones, with their settings where two rows have the same backbone."""
    short = [row["label"].partition(" (")[0] for row in rows]
    return [row["label"] if short.count(one) > 1 else one for row, one in zip(rows, short, strict=True)]


def _caption(section: View) -> str:
    """What a reader of the paper must know."""
    seeds = sorted({len(score["seeds"]) for row in section["rows"] for score in row["scores"].values()} or {0})
    count = " to ".join(str(one) for one in dict.fromkeys((seeds[0], seeds[-1])))
    tuned = ", learning rates tuned" if section["tuning"] else ""
    over = "seeds, within tasks" if seeds[0] > 1 else "seeds, or over the episodes of a single seed"
    return escaped(
        f"Normalised scores of suite {section['suite']} (data {section['source']}, preset {section['preset']}{tuned}, "
        f"{section['acting']} acting, {count} seed{'' if seeds[-1] == 1 else 's'}). Intervals: 95 % over {over}. "
        "Bold: surely better than some row, and no row is surely better (tasks: at 99 %, corrected for all "
        "comparisons; mean: at 95 %, from the same starts)."
    )


def _cell(row: View, name: str, best: set[tuple[str, str]]) -> str:
    one = row["scores"].get(name) or (row["aggregates"] or {}).get(name)
    if one is None:
        return "--"
    main = _number(one["value"])
    if (row["id"], name) in best:
        main = rf"\textbf{{{main}}}"
    if one["low"] is None:
        return main
    return rf"{main}\bbint{{{_number(one['low'])}}}{{{_number(one['high'])}}}"


def _number(value: float) -> str:
    text = f"{value:.1f}"
    return rf"$-${text[1:]}" if text.startswith("-") and float(text) else text.removeprefix("-")


def _bold(section: View) -> set[tuple[str, str]]:
    """(row, task or aggregate) of those that beat another row for sure and that none beats for sure.
    Rank alone makes nothing bold: where nothing is decided, nothing is."""
    pairs: list[tuple[str, str, str]] = [(one["task"], one["better"], one["worse"]) for one in section["decided"]]
    pairs += [("mean", one["x"], one["y"]) for one in section["paired"] if one["decided"]]
    better = {(row, name) for name, row, _ in pairs}
    worse = {(row, name) for name, _, row in pairs}
    return better - worse
