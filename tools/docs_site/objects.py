"""The Python API of the site: docstrings as Markdown, and fields as one table with what their comments say."""

from __future__ import annotations

import ast
import re
from typing import Any

import griffe
from field_comments import field_comments

ROLE = re.compile(r":\w+:`[~.]*([^`]+)`")  # Sphinx's, such as :class:`Spec`


class ReadableObjects(griffe.Extension):
    """Griffe's extension that ``mkdocs.yml`` names. It reads text and runs nothing."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = _markdown(obj.docstring.value)

    def on_class(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Fields move from the members into a table at the end of the docstring."""
        said, rows = field_comments(cls.source), []
        for name, member in list(cls.members.items()):
            if not isinstance(member, griffe.Attribute) or name.startswith("_") or "property" in member.labels:
                continue
            default, described = _field(str(member.value or ""))
            del cls.members[name]
            text = _markdown(said.get(name) or described).replace("|", r"\|")
            if member.annotation is not None:  # without one it is set in a method
                rows.append(f"| `{name}` | {_code(str(member.annotation))} | {_code(default)} | {text} |")
        if rows:
            table = "\n".join(["| field | type | default | |", "|---|---|---|---|", *rows])
            before = cls.docstring.value if cls.docstring is not None else ""
            cls.docstring = griffe.Docstring(f"{before}\n\n{table}", parent=cls)


def _markdown(text: str) -> str:
    text = ROLE.sub(r"`\1`", text).replace("``", "`")
    return re.sub(r"(`[^`]*`)|<", lambda match: match[1] or "&lt;", text)  # outside of code it would be a tag


def _code(text: str) -> str:
    return f"`{text}`" if text else ""  # a bar in code separates no cells


def _field(value: str) -> tuple[str, str]:
    """Default and description: those of pydantic's ``Field(...)``, else ``value`` itself."""
    if not value.startswith("Field("):
        return value, ""
    (call,) = [node for node in ast.walk(ast.parse(value)) if isinstance(node, ast.Call)][:1]
    given = {one.arg: one.value for one in call.keywords}
    default = ast.unparse(given["default"]) if "default" in given else ""
    description = ast.literal_eval(given["description"]) if "description" in given else ""
    return default, description
