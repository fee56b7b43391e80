"""What the comments in a class say about its fields."""

from __future__ import annotations

import ast
import io
import textwrap
import tokenize


def field_comments(source: str) -> dict[str, str]:
    """Field to its comment: that of its line, or else the lines above it. ``source``: the text of one class.

    Fields without a comment are missing.
    """
    source = textwrap.dedent(source)
    comments, alone = {}, set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = token.string.lstrip("# ").rstrip()
            if not token.line[: token.start[1]].strip():
                alone.add(token.start[0])
    (kind,) = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    found = {}
    for node in kind.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            first = node.lineno
            while first - 1 in alone:
                first -= 1
            lines = [comments[line] for line in range(first, (node.end_lineno or node.lineno) + 1) if line in comments]
            if lines:
                found[node.target.id] = " ".join(lines)
    return found
