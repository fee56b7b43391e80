"""The Python API on the documentation site: docstrings as Markdown, and comments of fields as their docstrings."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).parent))
from field_comments import field_comments

ROLE = re.compile(r":\w+:`[~.]*([^`]+)`")  # Sphinx's, such as :class:`Spec`


class ReadableObjects(griffe.Extension):
    """Griffe's extension that ``mkdocs.yml`` names. It reads text and runs nothing."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = ROLE.sub(r"`\1`", obj.docstring.value).replace("``", "`")

    def on_class(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        said = field_comments(cls.source) if "dataclass" in "".join(str(one.value) for one in cls.decorators) else {}
        for name, member in cls.members.items():
            if not isinstance(member, griffe.Attribute) or member.docstring is not None:
                continue
            text = said.get(name) or _description(str(member.value or ""))
            if text:
                member.docstring = griffe.Docstring(text.replace("``", "`"), parent=member)


def _description(value: str) -> str | None:
    """The ``description`` of pydantic's ``Field(...)``."""
    found = re.search(r"description=(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')", value)
    return found[1][1:-1] if found else None
