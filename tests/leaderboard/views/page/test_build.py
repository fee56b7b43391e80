"""All pages of a view: complete, small, equal for equal views, and without markup from records."""

from __future__ import annotations

import copy
import json
import re
import time
from base64 import b64encode
from hashlib import sha256
from typing import Any

import pytest
from html_document import Document
from record_factory import full_suite, make_record
from view_factory import TASKS, make_section, make_view

from backbench.leaderboard.board.board import build_board
from backbench.leaderboard.views.page import LIMIT, build
from backbench.leaderboard.views.tables import to_view

NASTY = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "../../x",
    "</title></svg></script><!--",
    "javascript:alert(1)",
    "' onload='alert(1)",
    "&lt;b&gt;\u2028\u2029\x00\u202e",
)

ADDRESSES = re.compile(
    r"#|\.\./index\.html(#|$)|rows/[\w-]+\.html|board\.(md|csv|json)$|https://arxiv\.org/abs/"
    r"|(\.\./){3,4}(docs/(README|board)\.md|CONTRIBUTING\.md#submit-records)$"
)


def spoil(value: Any, nasty: str) -> Any:
    """``value`` with every string in it, but the ids that pages are named by, made nasty."""
    if isinstance(value, str):
        return nasty
    if isinstance(value, list):
        return [spoil(item, nasty) for item in value]
    if isinstance(value, dict):
        return {key: spoil(item, nasty) for key, item in value.items()}
    return value


def spoilt_view(nasty: str) -> dict[str, Any]:
    section = make_section(rows=2, tasks=TASKS[:2], seeds=(0,))
    section["rows"][0] |= {"failed": [{"task": TASKS[0], "seed": 1, "reason": nasty}], "missing": [nasty]}
    section["reproduction"] = [
        {
            "row": section["rows"][0]["id"], "task": nasty, "ours": 1.0, "low": 0.0, "high": 2.0, "reported": 3.0,
            "difference": -2.0, "method": nasty, "citation": nasty,
        }
    ]  # fmt: skip
    view = make_view([section])
    for row in section["rows"]:
        for key in ("label", "backbone", "variant", "options", "model", "matched"):
            row[key] = nasty if key == "matched" else spoil(row[key], nasty)
        row["options"] = {nasty: nasty}
    for key in ("title", "suite", "source", "preset", "acting", "sampling", "normaliser", "citation"):
        section[key] = nasty
    section |= {"notes": [nasty], "apart": [nasty], "apart_from": 0, "versions": {nasty: nasty}}
    section["reported"] = [spoil(one, nasty) for one in section["reported"][:1]]
    section["task_settings"] = {task: spoil(one, nasty) for task, one in section["task_settings"].items()}
    for cell in view["cells"].values():
        record = cell["record"]
        cell["record"] = spoil(record, nasty) | {"extra": {nasty: [nasty, {nasty: nasty}]}}
    return view


def shape(page: Document) -> list[tuple[str, list[str]]]:
    return [(tag, sorted(attrs)) for tag, attrs in page.elements if tag != "wbr"]


@pytest.mark.parametrize("nasty", NASTY)
def test_nothing_from_a_record_becomes_markup(nasty: str) -> None:
    plain = {file: Document(page) for file, page in build(spoilt_view("plain"), repository="../../..").items()}
    pages = build(spoilt_view(nasty), repository="../../..")
    assert list(pages) == list(plain)
    for file, page in pages.items():
        assert re.fullmatch(r"index\.html|rows/[A-Za-z0-9-]+\.html", file)
        found = Document(page)
        # The same elements with the same attributes in the same order as with a harmless name; but a dash may break.
        assert shape(found) == shape(plain[file])
        shown = nasty.replace("\x00", "\ufffd")
        assert shown in found.text
        for tag in ("a", "link", "img", "use"):
            for attrs in found.of(tag):
                assert ADDRESSES.match(attrs["href"] or "")


@pytest.mark.parametrize("row_id", ["../x", "a/b", "", ".hidden", "a\nb", "a b", "x" * 201, '"', 7, None])
def test_row_ids_that_are_not_safe_file_names_are_refused(row_id: Any) -> None:
    view = make_view([make_section(rows=1)])
    view["sections"][0]["rows"][0]["id"] = row_id
    with pytest.raises(ValueError, match="not a safe file name"):
        build(view)


def test_ids_that_are_used_twice_are_refused() -> None:
    section = make_section(rows=2)
    section["rows"][1]["id"] = section["rows"][0]["id"]
    with pytest.raises(ValueError, match="two rows have the id"):
        build(make_view([section]))
    with pytest.raises(ValueError, match="two sections have the same id"):
        build(make_view([make_section(rows=0), make_section(rows=0)]))
    with pytest.raises(ValueError, match="letters, digits and dashes"):
        build(make_view([make_section("a b")]))


def test_the_security_policy_allows_only_the_page_itself() -> None:
    for page in build(make_view()).values():
        found = Document(page)
        policy = next(attrs["content"] for attrs in found.of("meta") if attrs.get("http-equiv"))
        style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
        script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
        assert style
        assert script
        hashes = ["sha256-" + b64encode(sha256(part[1].encode()).digest()).decode() for part in (style, script)]
        assert policy == (
            f"default-src 'none'; style-src '{hashes[0]}'; script-src '{hashes[1]}'; base-uri 'none'; "
            "form-action 'none'"
        )
        # Style attributes and event handlers would be refused by it.
        assert not any(name == "style" or name.startswith("on") for _, attrs in found.elements for name in attrs)
        assert not [attrs for _, attrs in found.elements if "src" in attrs]
        assert "@import" not in style[1]
        assert "url(" not in style[1]


def test_equal_views_give_equal_pages() -> None:
    view = make_view([make_section(), make_section("d4rl-embedded-quick-recurrent", 2, acting="recurrent")])
    before = copy.deepcopy(view)
    first = build(view)
    assert view == before
    assert build(json.loads(json.dumps(view))) == first
    assert next(iter(first)) == "index.html"
    assert len(first) == 1 + 5 + 2


def test_fifteen_rows_fit_with_all_plots() -> None:
    assert LIMIT == 500_000
    page = build(make_view([make_section(rows=15)]))["index.html"]
    assert len(page.encode()) < 400_000
    assert page.count('class="plot"') == 2 + 3 + 4 + 9 + 2 + 9
    assert "The plots show the first 12 of 15 rows by IQM." in page


def test_a_thousand_records_fit_and_build_in_seconds() -> None:
    view = make_view([make_section(rows=112, seeds=(0,))])
    assert view["records"] == 1008
    began = time.process_time()
    pages = build(view)
    assert time.process_time() - began < 10  # 2 s on an idle core
    assert len(pages) == 113
    assert len(pages["index.html"].encode()) < LIMIT


def test_what_does_not_fit_is_skipped_and_the_page_says_so() -> None:
    view = make_view([make_section(f"s-{index}", 60, preset=f"p{index}", seeds=(0,)) for index in range(4)])
    for section in view["sections"]:
        for row in section["rows"]:
            row["records"] = []
    view["cells"] = {}
    page = build(view)["index.html"]
    assert len(page.encode()) < LIMIT
    assert 'class="plot"' not in page
    assert "No plots: the page would be too large." in page
    assert "Only 30 of 60 rows are shown. The CSV and JSON views have all." in page


def test_tables_that_do_not_fit_are_counted() -> None:
    sections = [make_section(f"s-{index}", 1, preset=f"p{index}", seeds=(0,)) for index in range(300)]
    for section in sections:
        section["rows"][0]["records"] = []
    pages = build({**make_view(sections), "cells": {}})
    assert len(pages["index.html"].encode()) < LIMIT
    found = Document(pages["index.html"])
    shown = len([attrs for attrs in found.of("section") if attrs.get("class") == "section"])
    assert 10 < shown < 300
    assert f"{300 - shown} more tables are not on this page" in found.text
    assert len(pages) == 301


def test_a_view_of_real_records_becomes_complete_pages() -> None:
    evil = "<script>alert(1)</script>"
    records = full_suite("gloma", 40.0) + full_suite(evil, 60.0)
    records += [make_record(evil, failed="<b>nan</b>", seed=9), make_record("mamba", variant="train.lr=0.1")]
    records += [make_record("mamba", "hopper-medium", acting, protocol__acting="recurrent") for acting in (0, 1)]
    view = to_view(build_board(records, reproduced=frozenset(record.key for record in records[:27])), records)
    pages = build(json.loads(json.dumps(view)))
    index = Document(pages["index.html"])
    assert f"{len(records)} records" in index.text
    assert [attrs.get("id") for attrs in index.of("section") if attrs.get("class") == "section"] == [
        section["id"] for section in view["sections"]
    ]
    assert len(view["sections"]) == 2
    assert len(pages) == 1 + sum(len(section["rows"]) for section in view["sections"])
    assert index.text.count("= reproduced") == 2
    assert "1 failed" in index.text
    kept = [
        attrs["id"]
        for page in pages.values()
        for attrs in Document(page).of("details")
        if "record" in (attrs.get("class") or "")
    ]
    assert sorted(kept) == sorted(f"record-{record.key}" for record in records)
