"""The site as built: strictly, without the network. ``make docs`` makes the environment for it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from chromium import CHROMIUM, DESKTOP, PHONE, Browser
from markdown_it import MarkdownIt
from paths import ROOT

MKDOCS = ROOT / ".venv-docs" / "bin" / "mkdocs"
pytestmark = pytest.mark.skipif(not MKDOCS.exists(), reason="no .venv-docs: make docs")
COUNTED = {"h1", "h2", "h3", "h4", "ul", "ol", "li", "pre", "table", "tr", "td", "th", "strong", "em"}
# The signatures are written by mkdocstrings.
WRITTEN = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
    if path.name != "signatures.md"
)
PAGES = ("docs/index.html", "docs/tutorial.html", "docs/reference/configuration.html", "docs/reference/signatures.html")


def build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """MkDocs in a repository at ``root``, as ``make docs`` calls it."""
    return subprocess.run(
        [str(MKDOCS), "build", "--site-dir", str(site)], cwd=root, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": "tools", "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no chromium")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def test_the_board_at_the_root_and_the_pages_link_to_each_other(site: Path) -> None:
    assert 'href="docs/contents.html"' in (site / "index.html").read_text()
    assert 'href="../docs/CONTRIBUTING.html#submit-records"' in next((site / "rows").glob("*.html")).read_text()
    assert 'href="../index.html"' in (site / "docs" / "index.html").read_text()
    committed = ROOT / "leaderboard" / "published" / "pages"
    assert (site / "board.csv").read_bytes() == (committed / "board.csv").read_bytes()
    assert (site / "board.md").read_bytes() == (committed / "board.md").read_bytes()


def test_the_api_has_signatures_docstrings_and_fields(site: Path) -> None:
    page = (site / "docs" / "reference" / "signatures.html").read_text()
    for name in ("backbench.backbones.contract.Mixer.residual_outputs", "backbench.leaderboard.record.schema.Record"):
        assert f'id="{name}"' in page
    assert "width of a token embedding" in page  # a comment in the code
    assert ":class:" not in page


class Tags(HTMLParser):
    """How often each tag of ``COUNTED`` begins."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.count[tag] += tag in COUNTED


@pytest.mark.parametrize("name", WRITTEN)
def test_the_site_has_the_lists_tables_and_blocks_that_github_shows(name: str, site: Path) -> None:
    github = MarkdownIt("commonmark", {"html": True}).enable("table").render((ROOT / name).read_text())
    file = {"README.md": "index.html", "docs/README.md": "contents.html"}.get(name)
    built = (site / "docs" / (file or name.removeprefix("docs/").replace(".md", ".html"))).read_text()
    article = re.search(r"<article.*?</article>", built, re.DOTALL)
    assert article is not None
    assert Tags(article[0]).count == Tags(github).count


def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    """Also one in plain HTML, which MkDocs does not look into."""
    root = tmp_path / "repository"
    for name in ("docs", "tools/docs_site", "src", "agents", "backbones", "benchmarks", "leaderboard"):
        ignored = shutil.ignore_patterns("__pycache__", "records", "rows")
        shutil.copytree(ROOT / name, root / name, symlinks=True, ignore=ignored)
    for path in (*ROOT.glob("*.md"), ROOT / "mkdocs.yml", ROOT / "pyproject.toml", ROOT / "tools/field_comments.py"):
        shutil.copy(path, root / path.relative_to(ROOT))
    with (root / "docs" / "tutorial.md").open("a") as page:
        page.write('\n[x](nowhere.md) [y](memory.md#no-such-heading) <a href="gone.html">z</a>\n')
    done = build(root, tmp_path / "site")
    assert done.returncode == 1
    for words in ("'nowhere.md'", "no-such-heading", "docs/tutorial.html: gone.html: no such file"):
        assert words in done.stderr


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("page", PAGES)
def test_no_page_is_wider_than_the_window_or_asks_a_host(
    page: str, size: tuple[int, int], site: Path, browser: Browser
) -> None:
    browser.open(f"file://{site}/{page}", size)
    assert browser.ask("document.documentElement.scrollWidth") == size[0]
    assert [line for line in browser.complaints() if not line.startswith(("file:", "data:"))] == []


def test_search_finds_a_word_from_a_folder(site: Path, browser: Browser) -> None:
    browser.open(f"file://{site}/docs/how-to/studies.html")
    browser.ask("document.querySelector('#__search').click(); document.querySelector('.md-search__input').focus()")
    browser.type("causality")
    deadline, found = time.monotonic() + 20, ""
    while "add-a-backbone.html" not in found and time.monotonic() < deadline:
        field = "document.querySelector('.md-search__input')"
        browser.ask(f"{field}.dispatchEvent(new KeyboardEvent('keyup', {{bubbles: true}}))")
        time.sleep(0.2)
        links = "[...document.querySelectorAll('.md-search-result__link')].map(one => one.href).join(' ')"
        found = str(browser.ask(links))
    assert "docs/how-to/add-a-backbone.html" in found


def test_the_theme_is_the_systems_until_the_reader_chooses(site: Path, browser: Browser) -> None:
    scheme = "document.body.getAttribute('data-md-color-scheme')"
    for dark, expected in ((False, "default"), (True, "slate")):
        browser.open(f"file://{site}/docs/index.html", dark=dark)
        assert browser.ask(scheme) == expected
    browser.ask("document.querySelector('[data-md-component=palette] label:not([hidden])').click()")
    assert browser.ask(scheme) == "default"
