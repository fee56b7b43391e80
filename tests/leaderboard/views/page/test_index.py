"""Head and foot of index.html, and its switches."""

from __future__ import annotations

from html_document import Document
from view_factory import make_section, make_view

from backbench.leaderboard.views.page import build


def test_sections_can_be_chosen() -> None:
    sections = [
        make_section(),
        make_section("d4rl-embedded-quick-recurrent", 2, acting="recurrent"),
        make_section("d4rl-embedded-quick-window-2", 1),
    ]
    sections[2] |= {"apart": ["data_sha256 of hopper-medium: 12121212 instead of abababab"], "apart_from": 0}
    page = build(make_view(sections))["index.html"]
    found = Document(page)
    radios = [
        (attrs["name"], attrs["value"], "checked" in attrs) for attrs in found.of("input") if attrs["type"] == "radio"
    ]
    assert radios == [
        ("acting", "window", True),
        ("acting", "recurrent", False),
        ("table", "1", True),
        ("table", "2", False),
    ]
    assert "12121212 instead of abababab" in found.text
    # Without a script they are links to sections that are all there.
    links = [attrs["href"] for attrs in found.of("a") if (attrs["href"] or "").startswith("#d4rl")]
    assert links[:3] == [f"#{section['id']}" for section in sections]
    assert {f"#{attrs.get('id')}" for attrs in found.of("section")} >= set(links)


def test_a_view_without_records_says_how_to_make_some() -> None:
    pages = build(make_view([]))
    assert list(pages) == ["index.html"]
    found = Document(pages["index.html"])
    assert "No records yet" in found.text
    assert "bench submit" in found.text
    assert "0 records" in found.text


def test_the_explanation_is_folded_and_the_digest_is_shown() -> None:
    view = make_view([make_section(rows=1)])
    found = Document(build(view)["index.html"])
    (about,) = [attrs for attrs in found.of("details") if attrs.get("class") == "about"]
    assert "open" not in about
    assert "How to read the scores" in found.text
    assert view["digest"] in [attrs.get("title") for attrs in found.of("code")]
