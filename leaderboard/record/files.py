"""Records as files: named by their cell, written atomically, refused in one line when they are not as written."""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from backbench.leaderboard.record.schema import SCHEMA_VERSION, Record

_AGAIN = "restore the file, or move it away and run the cell again"


class RecordError(ValueError):
    """A file that is no record: one line with the file, what is wrong and what to do. The file is left as it is."""

    def __init__(self, path: str | Path, problem: str, remedy: str = _AGAIN) -> None:
        self.path = Path(path)
        self.problem = " ".join(problem.split())
        self.remedy = remedy
        super().__init__(f"{path}: {self.problem}; {remedy}")


def cell_digest(mapping: Mapping[str, Any]) -> str:
    """First 8 hex digits of the SHA-256 of ``mapping`` as canonical JSON: sorted keys, no spaces, ASCII.

    Equal for mappings that differ in the order of their keys or in list against tuple only; 1 and 1.0 differ.
    Raises ``TypeError`` or ``ValueError`` for what JSON cannot hold (NaN, infinities, objects).
    """
    text = json.dumps(mapping, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:8]


def cell_key(backbone: str, task: str, source: str, preset: str, seed: int, digest: str) -> str:
    """Stable name of a cell, ``{backbone}.{task}.{source}.{preset}.s{seed}.{digest}``, safe as a file name.

    ``digest`` is ``cell_digest`` of everything that defines the cell. Characters other than letters, digits and
    ``_ + = -`` become ``-``, so that a dot always separates.
    """
    names = [re.sub(r"[^A-Za-z0-9_+=-]", "-", name)[:40] for name in (backbone, task, source, preset)]
    return ".".join([*names, f"s{seed}", digest])


def canonical(record: Record, as_read: bool = False) -> str:
    """The one text of a record: sorted keys, shortest floats that read back equal, so equal records are equal bytes.

    With ``as_read`` only the fields that its file had: one that a later release has added is not in an older file.
    Raises ``ValueError`` or ``TypeError`` for what JSON cannot hold.
    """
    content = record.model_dump(exclude_unset=as_read)
    return json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def dump_record(record: Record, path: str | Path) -> None:
    """Write ``record`` to ``path``, whole or not at all, also when the machine stops half-way.

    The text is ``canonical``'s. Creates the folder. Raises ``RecordError`` when the record would not read back (NaN in
    a free mapping, a field that was set past validation) and ``OSError`` when the folder cannot be written.
    """
    path = Path(path)
    try:
        text = canonical(record)
        parse_record(text, path)
    except RecordError:
        raise
    except (TypeError, ValueError) as error:
        raise RecordError(path, f"the record is not JSON: {error}", "nothing was written") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    # Hidden and with another ending, so that nobody who lists records meets a half-written one.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself
    finally:
        os.close(folder)


def load_record(path: str | Path) -> Record:
    """The record in ``path``. Raises ``RecordError`` for a file that is missing, unreadable, broken or of another
    schema version."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecordError(path, "there is no such record", "run the cell") from None
    except OSError as error:
        raise RecordError(path, f"cannot be read: {error.strerror or error}", "check the permissions") from None
    except UnicodeDecodeError:
        raise RecordError(path, "is not UTF-8 text") from None
    return parse_record(text, path)


def parse_record(text: str, path: str | Path) -> Record:
    """The record in ``text``; ``path`` is only named in the error. Raises ``RecordError``."""

    def refuse(constant: str) -> NoReturn:
        raise RecordError(path, f"{constant} is no number of a record")

    if not text.strip():
        raise RecordError(path, "the file is empty")
    try:
        content = json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        truncated = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        what = "the JSON ends too early (truncated)" if truncated else f"malformed JSON: {error.msg}"
        raise RecordError(path, f"{what} at line {error.lineno}, column {error.colno}") from None
    except RecordError:
        raise
    except ValueError:  # Python reads no integer of more than 4300 digits
        raise RecordError(path, "malformed JSON: a number has too many digits") from None
    except RecursionError:
        raise RecordError(path, "malformed JSON: nested too deeply") from None
    if not isinstance(content, dict):
        raise RecordError(path, f"a record is a JSON object, this is a {type(content).__name__}")
    version = content.get("schema_version")
    if type(version) is not int or version != SCHEMA_VERSION:
        # Looked at first: a list of every field that moved would hide the one thing that matters.
        if "schema_version" not in content:
            raise RecordError(path, "schema_version: is missing, so this is no record", "move the file away")
        remedy = f"read it with the release of backbench that wrote it (this one reads version {SCHEMA_VERSION})"
        raise RecordError(path, f"schema_version: {version!r} is another version of the schema", remedy)
    try:
        return Record.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise RecordError(path, _first_problem(error)) from None


def load_records(folder: str | Path) -> tuple[list[Record], list[RecordError]]:
    """Every ``*.json`` under ``folder``, in the order of paths: the records, and what is wrong with the other files.

    Two files that hold the same cell are an error too (the first one is kept): which of them is true is not for a
    program to guess. Hidden files are left out. Changes nothing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return [], [RecordError(folder, "there is no such folder", "run some cells, or name another folder")]
    records: list[Record] = []
    errors: list[RecordError] = []
    seen: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.json")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        try:
            record = load_record(path)
        except RecordError as error:
            errors.append(error)
            continue
        first = seen.setdefault(record.key, path)
        if first is not path:
            errors.append(RecordError(path, f"key: the same cell as {first}", "keep one of the two files"))
            continue
        records.append(record)
    return records, errors


def _first_problem(error: ValidationError) -> str:
    first, *others = error.errors(include_url=False, include_context=False)
    where = ".".join(str(part) for part in first["loc"]) or "record"
    message = first["msg"].removeprefix("Value error, ")
    got = first["input"]
    shown = f" (got {got!r})" if isinstance(got, str | int | float | bool) and len(str(got)) <= 60 else ""
    more = f", and {len(others)} more" if others else ""
    return f"{where}: {message}{shown}{more}"
