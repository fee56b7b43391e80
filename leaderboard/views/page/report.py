"""The page of one study: its report, with its pictures inside."""

from base64 import b64encode

from markdown_it import MarkdownIt
from markdown_it.token import Token

from backbench.leaderboard.views.page import parts
from backbench.leaderboard.views.page.markup import Child, Html, el, page
from backbench.leaderboard.views.studies import Report

TABLE = el("table", {"class": "plain"}).removesuffix("</table>")


def report_file(name: str) -> str:
    return f"studies/{name}.html"


def report_page(report: Report, repository: str | None) -> str:
    """One self-contained page. ``repository``: see ``build``, with the path from this page."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(report.text)
    title = report.name
    if [token.type for token in tokens[:3]] == ["heading_open", "inline", "heading_close"]:
        title, tokens = tokens[1].content, tokens[3:]  # the header has the title
    for token in tokens:
        token.attrs.pop("style", None)  # the page's policy forbids it, and its own style aligns columns
        for child in token.children or ():
            _put_inside(child, report)
    content = reader.renderer.render(tokens, reader.options, {})
    box = parts.scroll("Table", Html(TABLE)).removesuffix("</div>")
    content = content.replace("<table>", box).replace("</table>", "</table></div>")
    back = el("a", {"href": "../index.html"}, "Leaderboard")
    trail = el("nav", {"class": "trail", "aria-label": "Path"}, back, " › ", "Studies")
    below = el("footer", None, el("p", None, back), parts.links(repository))
    around: tuple[Child, Child] = parts.header(title, trail=trail), below
    article = el("article", {"class": "report"}, Html(content))
    return page(title, f"The report of a study: {title}", "Skip to the report", around, article, pictures=True)


def _put_inside(token: Token, report: Report) -> None:
    """An image becomes a part of the page. One that is not there is left out, its description stays."""
    if token.type == "image":
        found = report.pictures.get(str(token.attrGet("src")))
        if found is None:
            token.type, token.tag, token.attrs = "text", "", {}
        else:
            token.attrSet("src", f"data:image/svg+xml;base64,{b64encode(found.encode()).decode()}")
