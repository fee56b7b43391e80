"""Text made safe for where it is shown."""

from __future__ import annotations

from backbench.text import count, markdown


def test_markdown_shows_any_text_as_it_is() -> None:
    assert markdown("a|b *c* <d> [e]_#`\\&") == r"a\|b \*c\* &lt;d&gt; \[e\]\_\#\`\\&amp;"


def test_one_thing_has_no_plural() -> None:
    assert [count(number, "layer") for number in (0, 1, 2)] == ["0 layers", "1 layer", "2 layers"]
