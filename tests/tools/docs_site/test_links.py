"""The check of the finished site's links."""

from __future__ import annotations

from pathlib import Path

from docs_site.links import broken


def test_broken_links_and_headings_and_foreign_files_are_found(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path.parent / f"{tmp_path.name}.html").write_text("outside of the site")
    (tmp_path / "docs" / "a.html").write_text('<h1 id="top">A</h1><a href="../b.html">b</a><a href="#top">t</a>')
    (tmp_path / "b.html").write_text(
        '<a href="docs/a.html#top">a</a><a href="docs/a.html#gone">g</a><img src="none.png"><a href="docs">d</a>'
        f'<a href="/b.html">from the root</a><a href="../{tmp_path.name}.html">outside</a>'
        '<a href="#section=memory">state</a><a href="https://example.org">web</a><a href="mailto:a@b">m</a>'
        '<link href="https://example.org/font.css"><script src="//example.org/x.js"></script>'
    )
    assert list(broken(tmp_path)) == [
        "b.html: https://example.org/font.css: loaded from a host",
        "b.html: //example.org/x.js: loaded from a host",
        "b.html: docs/a.html#gone: no such heading",
        "b.html: none.png: no such file",
        "b.html: docs: no such file",
        "b.html: /b.html: no such file",
        f"b.html: ../{tmp_path.name}.html: no such file",
    ]
