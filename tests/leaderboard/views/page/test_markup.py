"""Escaping: nothing from a record becomes markup."""

from __future__ import annotations

import json
import re
from typing import Any

from html_document import Document
from hypothesis import given, settings
from hypothesis import strategies as st

from backbench.leaderboard.views.page.markup import cite, el, json_script, text


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_is_shown_as_it_is(value: str) -> None:
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
