"""GitHub's Markdown to MkDocs'."""

from __future__ import annotations

from docs_site.markdown import navigation, translated


def same(name: str) -> str:
    return name


def test_links_keep_their_words_and_their_anchor() -> None:
    text = "See [a `b` c](../x.md#one) and ![picture](p.png), [web](https://example.org), [here](#two)."
    assert translated(text, "docs/how-to", same) == text


def test_a_link_leads_where_the_site_has_the_file() -> None:
    moved = {"pages/a.md": "pages/b/c.html", "src/code.py": "https://example.org/code.py"}
    assert translated("[x](a.md#y) [z](../src/code.py)", "pages", moved.get) == (
        "[x](b/c.html#y) [z](https://example.org/code.py)"
    )


def test_a_link_to_what_the_site_lacks_becomes_code() -> None:
    assert translated("[records](r) and [`r`](r)", "", lambda name: None) == "`records` and `r`"


def test_a_picture_for_both_themes_becomes_one_for_each() -> None:
    text = (
        '<picture>\n<source media="(prefers-color-scheme: dark)" srcset="i/dark.svg">\n'
        '<img alt="Scores" src="i/light.svg">\n</picture>'
    )
    assert translated(text, "", same) == "![Scores](i/light.svg#only-light)\n![Scores](i/dark.svg#only-dark)"


def test_what_belongs_to_an_item_moves_to_four_columns() -> None:
    text = "* one\n  goes on\n\n  | a |\n  |---|\n\n  1. inner\n\n         code\n* two\n\nafter"
    assert translated(text, "", same).split("\n") == [
        "* one", "    goes on", "", "    | a |", "    |---|", "", "    1. inner", "", "            code", "",
        "* two", "", "after",
    ]  # fmt: skip


def test_an_item_after_a_paragraph_of_another_is_an_item() -> None:
    assert translated("* one\n\n  more\n* two", "", same) == "* one\n\n    more\n\n* two"


def test_a_list_may_follow_a_paragraph_at_once() -> None:
    assert translated("Two:\n* one\n* two", "", same) == "Two:\n\n* one\n* two"


def test_code_stays_as_it_is() -> None:
    text = "    * not an item\n\n```\n* nor this\n  nor this\n```"
    assert translated(text, "", same) == text


def test_a_bar_in_the_code_of_a_table_loses_its_backslash() -> None:
    assert translated(r"| `a \| b` | c \| d |", "", same) == r"| `a | b` | c \| d |"
    assert translated(r"`a \| b`", "", same) == r"`a \| b`"


def test_a_comment_names_an_object_of_the_api() -> None:
    assert translated("<!-- api: backbench.errors.UserError -->", "", same) == "::: backbench.errors.UserError"
    found = translated("<!-- api: backbench.* -->", "", same, {"backbench": ("run", "board")}.__getitem__)
    assert found == "::: backbench.run\n\n::: backbench.board"


def test_the_navigation_is_the_tables_of_the_index() -> None:
    rows = "| page | |\n|---|---|\n| [One `1`](how/one.md) | |\n"
    index = f"# All\n\n[x](x.md)\n\n## How\n\n{rows}\n## More\n\n| [Two](../B.md) | |"
    assert navigation(index, "pages") == {"How": {"One 1": "pages/how/one.md"}, "More": {"Two": "B.md"}}
