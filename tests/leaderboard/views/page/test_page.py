"""The pages as text: whole, small, equal for equal views, and nothing from a record becomes markup."""

from __future__ import annotations

import copy
import json
import re
import time
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_factory import full_suite, make_record
from view_factory import TASKS, make_section, make_view

from backbench.leaderboard.board.board import build_board
from backbench.leaderboard.scores.statistics import COVERAGE
from backbench.leaderboard.views.page import LIMIT, build
from backbench.leaderboard.views.page.markup import cite, el, json_script, text
from backbench.leaderboard.views.page.table import ordered
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
VOID = {"meta", "input", "wbr", "br"}


class Document(HTMLParser):
    """Elements with their attributes and the text in them, and whether every element was closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        assert len(attrs) == len(dict(attrs))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        where = self._open[-1] if self._open else ""
        if where in ("script", "style"):
            self.scripts.append(data)
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


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
    plain = {file: Document(page) for file, page in build(spoilt_view("plain")).items()}
    pages = build(spoilt_view(nasty))
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
                assert re.match(
                    r"#|\.\./index\.html(#|$)|rows/[\w-]+\.html|board\.(md|csv|json)$|https://arxiv\.org/abs/",
                    attrs["href"] or "",
                )


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_comes_out_as_it_went_in(value: str) -> None:
    page = el("p", {"title": value}, value, el("b", None, value))
    found = Document(str(page))
    assert [tag for tag, _ in found.elements] == ["p", "b"]
    shown = text(value).encode().decode()  # can be written as UTF-8
    attrs = found.of("p")[0]
    assert found.text == (attrs["title"] or "") * 2
    clean = re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", value)
    assert found.text == clean * 2
    assert not set("<>\"'") & set(shown)


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
@settings(max_examples=50, deadline=None)
def test_json_in_a_script_cannot_end_it(value: Any) -> None:
    element = json_script("data", value)
    content = element.removeprefix('<script type="application/json" id="data">').removesuffix("</script>")
    assert not set("<>&\u2028\u2029") & set(content)
    assert json.loads(content) == value


def test_citations_link_to_arxiv_and_nowhere_else() -> None:
    found = Document(str(cite("RATE (arXiv:2306.09459), https://evil.example/ <b>")))
    assert [attrs["href"] for attrs in found.of("a")] == ["https://arxiv.org/abs/2306.09459"]
    assert found.text == "RATE (arXiv:2306.09459), https://evil.example/ <b>"


@pytest.mark.parametrize("row_id", ["../x", "a/b", "", ".hidden", "a\nb", "a b", "x" * 201, '"', 7, None])
def test_ids_that_are_no_file_names_are_refused(row_id: Any) -> None:
    view = make_view([make_section(rows=1)])
    view["sections"][0]["rows"][0]["id"] = row_id
    with pytest.raises(ValueError, match="no safe file name"):
        build(view)


def test_ids_that_are_there_twice_are_refused() -> None:
    section = make_section(rows=2)
    section["rows"][1]["id"] = section["rows"][0]["id"]
    with pytest.raises(ValueError, match="is there twice"):
        build(make_view([section]))
    with pytest.raises(ValueError, match="two sections have the same id"):
        build(make_view([make_section(rows=0), make_section(rows=0)]))
    with pytest.raises(ValueError, match="letters, digits and dashes"):
        build(make_view([make_section("a b")]))


def test_the_policy_allows_the_page_itself_and_nothing_else() -> None:
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


def test_the_table_has_every_number() -> None:
    view = make_view()
    section = view["sections"][0]
    found = Document(build(view)["index.html"])
    rows = [attrs for attrs in found.of("tr") if attrs.get("data-row")]
    assert [attrs["data-row"] for attrs in rows] == [row["id"] for row in ordered(section["rows"])]
    heads = [attrs for attrs in found.of("th") if "data-key" in attrs]
    assert [attrs["data-key"] for attrs in heads] == [
        "name", "iqm", "mean", "median", "optimality_gap", *(f"task:{task}" for task in TASKS), "parameters",
        "parameters_backbone", "flops_per_token", "train_tokens_per_s", "decision_p50_ms", "decision_p95_ms",
        "peak_memory_mb", "wall_seconds", "seeds", "failed",
    ]  # fmt: skip
    assert [attrs["data-key"] for attrs in heads if attrs.get("aria-sort")] == ["iqm"]
    first = section["rows"][0]
    values = [attrs["data-v"] for attrs in found.of("td") if "data-v" in attrs][: len(heads) - 1]
    expected = [first["aggregates"][name]["value"] for name in ("iqm", "mean", "median", "optimality_gap")]
    expected += [first["scores"][task]["value"] for task in TASKS] + list(first["cost"].values()) + [3, 0]
    assert [float(value or "nan") for value in values] == pytest.approx(expected, rel=1e-5)
    assert "[72.0, 79.0]" in found.text
    assert "135 records" in found.text
    for shares in (COVERAGE["iqm"], COVERAGE["task"]):
        assert ", ".join(f"{share:.0%} with {seeds}" for seeds, share in shares.items()) in found.text
    assert not [attrs for attrs in found.of("svg") if attrs.get("role") != "img" and attrs.get("aria-hidden") != "true"]


def test_what_is_missing_failed_matched_and_verified_is_said() -> None:
    section = make_section(rows=3)
    poor, matched, sure = section["rows"]
    del poor["scores"]["hopper-medium"]
    poor |= {"aggregates": None, "profile": None, "missing": ["hopper-medium"], "seeds": []}
    poor["failed"] = [{"task": "hopper-medium", "seed": 2, "reason": "NonFiniteLoss: loss is nan (step 7)"}]
    matched["matched"] = "transformer"
    sure |= {"trust": "verified", "verified_cells": 27}
    view = make_view([section])
    failed = next(key for key, cell in view["cells"].items() if "hopper-medium.s2" in key and cell["row"] == poor["id"])
    view["cells"][failed] |= {"status": "failed", "score": None}
    view["cells"][failed]["record"] |= {"status": "failed", "scores": None}
    pages = build(view)
    found = Document(pages["index.html"])
    assert [row["label"] for row in ordered(section["rows"])] == ["transformer", "mamba", "gloma"]  # without: last
    for said in ("lacks hopper-medium", "1 failed", "matched to transformer"):
        assert said in found.text
    classes = [attrs.get("class") for attrs in found.of("span")]
    assert classes.count("badge ok") == 2  # the legend and the row
    assert f"rows/{poor['id']}.html#failed" in [attrs["href"] for attrs in found.of("a")]
    row = Document(pages[f"rows/{poor['id']}.html"])
    assert "NonFiniteLoss: loss is nan (step 7)" in row.text
    ids = [attrs.get("id") for _, attrs in row.elements]
    assert "failed" in ids
    assert f"record-{failed}" in ids
    assert f"#record-{failed}" in [attrs.get("href") for attrs in row.of("a")]


def test_published_numbers_stand_apart() -> None:
    section = make_section(rows=1)
    note = "No difference to reported scores is formed: other data."
    section["notes"] = [note]
    found = Document(build(make_view([section]))["index.html"])
    assert "Decision Mamba" in found.text
    assert "reported" in found.text
    assert found.text.count(note) == 2  # among the notes and where the table would be
    assert "RATE (arXiv:2306.09459) Table 3 (secondary transcription)" in found.text
    section["reproduction"] = [
        {
            "row": section["rows"][0]["id"], "task": "hopper-medium", "ours": 61.0, "low": 58.0, "high": 64.0,
            "reported": 67.6, "difference": -6.6, "method": "DT", "citation": "RATE (arXiv:2306.09459)",
        }
    ]  # fmt: skip
    found = Document(build(make_view([section]))["index.html"])
    assert "Ours minus reported" in found.text
    assert "−6.6" in found.text


def test_a_row_page_has_the_whole_provenance() -> None:
    view = make_view([make_section(rows=2)])
    row = view["sections"][0]["rows"][1]
    found = Document(build(view, "leaderboard/published/records")[f"rows/{row['id']}.html"])
    records = [attrs["id"] for attrs in found.of("details") if attrs.get("class") == "record"]
    assert records == [f"record-{key}" for key in row["records"]]
    key = row["records"][4]
    assert f"bench reproduce leaderboard/published/records/d4rl/{key}.json" in found.texts
    assert "bench run --backbone transformer --suite d4rl" in found.texts
    for said in ("selective_scan: cpp", "Example CPU, 2 cores", "torch 2.9.0", "n_heads", "1201.00", "s0: "):
        assert said in found.text, said
    assert len([attrs for attrs in found.of("button") if "copy" in (attrs.get("class") or "")]) == 2 * len(records)


def test_the_command_is_safe_to_paste() -> None:
    view = make_view([make_section(rows=1, seeds=(0,), tasks=TASKS[:1])])
    for cell in view["cells"].values():
        cell["record"]["identity"]["suite"] = "x; rm -rf ~"
    page = Document(build(view, "leaderboard/published/records")["rows/d4rl-embedded-quick-window-row-0.html"])
    assert any(part.startswith("bench reproduce 'leaderboard/published/records/x; rm -rf ~/") for part in page.texts)


def test_equal_views_give_equal_pages() -> None:
    view = make_view([make_section(), make_section("d4rl-embedded-quick-recurrent", 2, acting="recurrent")])
    before = copy.deepcopy(view)
    first = build(view)
    assert view == before
    assert build(json.loads(json.dumps(view))) == first
    assert next(iter(first)) == "index.html"
    assert len(first) == 1 + 5 + 2


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


def test_no_records_yet() -> None:
    pages = build(make_view([]))
    assert list(pages) == ["index.html"]
    found = Document(pages["index.html"])
    assert "No records yet" in found.text
    assert "bench submit" in found.text
    assert "0 records" in found.text


def test_a_section_without_a_finished_cell() -> None:
    section = make_section(rows=1, tasks=TASKS[:1])
    row = section["rows"][0]
    row |= {"scores": {}, "aggregates": None, "profile": None, "curves": {}, "evaluations": {}, "targets": {}}
    row |= {"cost": dict.fromkeys(row["cost"]), "missing": [TASKS[0]], "seeds": [], "cells": 0, "records": []}
    row["failed"] = [{"task": TASKS[0], "seed": 0, "reason": "RuntimeError: no"}]
    section |= {"data": {}, "data_mean": None, "data_iqm": None, "improvement": [], "reported": [], "complete": False}
    section |= {"versions": {}, "task_settings": {}}
    found = Document(build(make_view([section]))["index.html"])
    assert "1 failed" in found.text
    assert "Nothing that was published" in found.text


def test_fifteen_rows_are_well_under_the_limit() -> None:
    assert LIMIT == 500_000
    page = build(make_view([make_section(rows=15)]))["index.html"]
    assert len(page.encode()) < 400_000
    assert page.count('class="plot"') == 4 + 2 + 8 + 9 + 2 + 9
    assert "The first 12 of 15 rows by IQM are drawn." in page


def test_a_thousand_records() -> None:
    view = make_view([make_section(rows=112, seeds=(0,))])
    assert view["records"] == 1008
    began = time.process_time()
    pages = build(view)
    assert time.process_time() - began < 10  # 2 s on an idle core
    assert len(pages) == 113
    assert len(pages["index.html"].encode()) < LIMIT


def test_what_does_not_fit_is_left_out_and_said() -> None:
    view = make_view([make_section(f"s-{index}", 60, preset=f"p{index}", seeds=(0,)) for index in range(4)])
    for section in view["sections"]:
        for row in section["rows"]:
            row["records"] = []
    view["cells"] = {}
    page = build(view)["index.html"]
    assert len(page.encode()) < LIMIT
    assert 'class="plot"' not in page
    assert "No plots: the page would be too large." in page
    assert "Only 30 of 60 rows are shown; the CSV and JSON views have all." in page


def test_more_tables_than_a_page_holds() -> None:
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


def test_a_failed_cell_has_no_command_that_would_be_refused() -> None:
    records = [make_record("mlp", failed="x"), make_record("mlp", seed=1)]
    page = build(to_view(build_board(records), records), "leaderboard/published/records")
    text = Document(next(page[file] for file in page if file.startswith("rows/"))).text
    assert text.count("A failed cell has no score to reproduce.") == 1
    assert text.count("bench reproduce leaderboard/published/records/d4rl/") == 1


def test_pairs_and_plots_that_are_not_drawn_are_said() -> None:
    few, many = (build(make_view([make_section("s", count)]))["index.html"] for count in (6, 7))
    assert few.count("pairs only those") == 0
    assert "Of more than 15 pairs only those of the first row are drawn." in many
    clear = full_suite("a", 40.0) + full_suite("b", 60.0) + full_suite("c", 60.0)
    text = Document(build(to_view(build_board(clear), clear))["index.html"]).text
    assert "Above it, at 95 % each: b over a; c over a. Undecided: 1 of 3 pairs" in text


def test_real_views() -> None:
    evil = "<script>alert(1)</script>"
    records = full_suite("gloma", 40.0) + full_suite(evil, 60.0)
    records += [make_record(evil, failed="<b>nan</b>", seed=9), make_record("mamba", variant="train.lr=0.1")]
    records += [make_record("mamba", "hopper-medium", acting, protocol__acting="recurrent") for acting in (0, 1)]
    view = to_view(build_board(records, verified=frozenset(record.key for record in records[:27])), records)
    pages = build(json.loads(json.dumps(view)))
    index = Document(pages["index.html"])
    assert f"{len(records)} records" in index.text
    assert [attrs.get("id") for attrs in index.of("section") if attrs.get("class") == "section"] == [
        section["id"] for section in view["sections"]
    ]
    assert len(view["sections"]) == 2
    assert len(pages) == 1 + sum(len(section["rows"]) for section in view["sections"])
    assert index.text.count("✓ verified") == 2
    assert "1 failed" in index.text
    kept = [
        attrs["id"]
        for page in pages.values()
        for attrs in Document(page).of("details")
        if "record" in (attrs.get("class") or "")
    ]
    assert sorted(kept) == sorted(f"record-{record.key}" for record in records)
