"""The plots of a view as files of their own, SVG and PDF, each with its legend."""

import io
import re
from collections.abc import Mapping
from typing import Any

from backbench.errors import UserError
from backbench.leaderboard.views.page.figures import figures
from backbench.leaderboard.views.page.markup import Html, asset, el, join, text
from backbench.leaderboard.views.page.plots.panel import Style, label, shorten
from backbench.leaderboard.views.page.table import ordered

DRAWN = 12  # most rows in a plot
COLUMN = 180  # units of a legend's column
_PLOT = re.compile(r'<svg class="plot" viewBox="0 0 (\d+) (\d+)" role="img">(.*?)</svg>', re.DOTALL)
_TITLE = re.compile(r"<title>(.*?)</title>")


def plots_of(view: Mapping[str, Any]) -> dict[str, str]:
    """``SECTION-TITLE`` -> SVG of each plot on index.html, in light colours. Equal views give equal bytes."""
    found: dict[str, str] = {}
    for section in view["sections"]:
        rows = ordered(section["rows"])
        styles = {row["id"]: Style(row["id"], row["label"], index) for index, row in enumerate(rows[:DRAWN])}
        for wide, heights, inside in _PLOT.findall(figures(section, rows, styles, single_tasks=True) or ""):
            title = _TITLE.search(inside)
            words = f"{section['id']} {title[1] if title else 'plot'}"
            name = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:120]
            legend, more = _legend([styles[row] for row in styles if f'data-row="{text(row)}"' in inside], int(wide))
            found[name] = _alone(Html(inside), legend, int(wide), int(heights), more)
    return found


def pdf_of(svg: str) -> bytes:
    """``svg``, one of ``plots_of``, as PDF; equal bytes for equal plots. UserError: svglib is not installed."""
    try:
        from reportlab.graphics import renderPDF
        from reportlab.pdfgen.canvas import Canvas
        from svglib.svglib import svg2rlg
    except ImportError as error:
        raise UserError(f"--format pdf needs svglib ({error}); install it: pip install 'backbench[papers]'") from error
    drawing = svg2rlg(io.BytesIO(svg.encode()))
    content = io.BytesIO()
    canvas = Canvas(content, pagesize=(drawing.width, drawing.height), invariant=1)
    renderPDF.draw(drawing, canvas, 0, 0)
    canvas.showPage()
    canvas.save()
    return content.getvalue()


def _alone(inside: Html, legend: Html, width: int, height: int, more: int) -> str:
    """A plot with its legend below as a document."""
    total = height + more
    size = {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {width} {total}", "width": width, "height": total}
    below = el("g", {"transform": f"translate(0 {height})"}, legend)
    return f"{el('svg', {'class': 'plot', **size}, Html(f'<style>{_style()}</style>'), inside, below)}\n"


def _legend(styles: list[Style], width: int) -> tuple[Html, int]:
    """A sample and a name for each row, in columns, and the height of all."""
    columns = max(1, (width - 8) // COLUMN)
    parts = []
    for index, style in enumerate(styles):
        x, y = 6 + index % columns * COLUMN, 6 + index // columns * 18
        sample = re.sub(r"^<svg[^>]*>|</svg>$", "", style.swatch())
        parts.append(el("g", {"transform": f"translate({x} {y})"}, Html(sample)))
        parts.append(label(x + 36, y + 11, shorten(style.label, 24), "tx"))
    return join(parts), 18 * -(-len(styles) // columns) + 10 if styles else 0


def _style() -> str:
    """The page's rules for plots, with the values of its light theme."""
    css = asset("page.css")
    values = dict(re.findall(r"(--[\w-]+): ([^;]+);", css[: css.index("@media")]))
    rules = css.partition("/* Plots.")[2].partition("*/")[2].partition("/* End of plots. */")[0]
    rules = rules.replace("font-family: inherit", "font-family: Helvetica, Arial, sans-serif")
    found = []
    for selector, body in re.findall(r"([^{}]+)\{([^{}]*)\}", rules):
        if "--k:" in body or selector.lstrip().startswith(".wide"):
            continue
        each = range(8) if "var(--k)" in body else (None,)
        for number in each:
            one = body if number is None else body.replace("var(--k)", values[f"--c{number}"])
            one = re.sub(r"var\((--[\w-]+)\)", lambda match: values[match[1]], one)
            found.append(f"{selector.strip()}{'' if number is None else f'.k{number}'} {{{one}}}")
    return " ".join(found)
