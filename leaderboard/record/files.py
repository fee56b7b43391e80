"""Records as files: written atomically, refused in one line when they are broken; and where a leaderboard has them."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from backbench import reading
from backbench.files import create_whole, write_whole
from backbench.leaderboard.record.schema import SCHEMA_VERSION, Record

FOLDER = Path("leaderboard/published/records")  # the committed records, below the root of the repository
COMMITTED = Path(__file__).resolve().parents[1] / "published" / "records"  # the same in a clone; no wheel has it
FAILED = ".failed.json"  # the end of the name of a failed cell's record in a folder of results
MOST = 16 * reading.MB  # bytes of a record; the largest published ones have 0.05 MB
_AGAIN = "restore the file, or move it away and run the cell again"


class RecordError(ValueError):
    """A file that is no valid record: one line with the file, the problem and what to do. The file stays as it is."""

    def __init__(self, path: str | Path, problem: str, remedy: str = _AGAIN) -> None:
        self.path, self.problem, self.remedy = Path(path), " ".join(problem.split()), remedy
        super().__init__(f"{path}: {self.problem}; {remedy}")


def canonical(record: Record, as_read: bool = False) -> str:
    """The one text of a record: equal records are equal bytes. With ``as_read`` it has only the fields of its file.
    Raises ``ValueError`` or ``TypeError`` for what JSON cannot hold."""
    content = record.model_dump(exclude_unset=as_read)
    return json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def dump_record(record: Record, path: str | Path) -> None:
    """Write the ``canonical`` text of ``record`` to ``path``, completely or not at all. Creates the folder.
    Raises ``RecordError`` for a record that would not read back (NaN in a free mapping), and ``OSError``."""
    write_whole(Path(path), _checked(record, path))


def create_record(record: Record, path: str | Path, create: Callable[[Path, str], bool] = create_whole) -> bool:
    """``dump_record``, unless there is a file: whether this call created it. Of any number of calls one does."""
    return create(Path(path), _checked(record, path))


def _checked(record: Record, path: str | Path) -> str:
    """The text of a record that reads back. Raises as ``dump_record`` does."""
    try:
        text = canonical(record)
    except (TypeError, ValueError) as error:
        raise RecordError(path, f"the record is not JSON: {error}", "nothing was written") from None
    parse_record(text, path)
    return text


def read_record(path: str | Path) -> tuple[str, Record]:
    """(text, record) of a file. Raises ``RecordError`` if it is missing, unreadable, broken or of another version."""
    try:
        text = reading.text(path, MOST)
    except reading.ReadingError as error:
        if error.missing:
            raise RecordError(path, "there is no such record", "run the cell") from None
        remedy = "check the permissions" if isinstance(error.__cause__, OSError) else _AGAIN
        raise RecordError(path, error.problem, remedy) from None
    return text, parse_record(text, path)


def load_record(path: str | Path) -> Record:
    """The record in ``path``. Raises as ``read_record`` does."""
    return read_record(path)[1]


def parse_record(text: str, path: str | Path) -> Record:
    """The record in ``text``. ``path`` is only named in the ``RecordError`` that this raises."""
    try:
        content = reading.parse_json(text, path)
    except reading.ReadingError as error:
        raise RecordError(path, error.problem) from None
    if not isinstance(content, dict):
        raise RecordError(path, f"a record is a JSON object, this is a {type(content).__name__}")
    # Checked first: a list of every field that moved would hide the cause.
    if "schema_version" not in content:
        raise RecordError(path, "schema_version: is missing, so this is no record", "move the file away")
    version = content["schema_version"]
    if type(version) is not int or version != SCHEMA_VERSION:
        remedy = f"read it with the release of backbench that wrote it (this one reads version {SCHEMA_VERSION})"
        raise RecordError(path, f"schema_version: {version!r} is another version of the schema", remedy)
    try:
        return Record.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise RecordError(path, _first_problem(error)) from None


@contextmanager
def uncollected() -> Iterator[None]:
    """Python's collector rests: it would look at all values of many records again and again, and none has a cycle."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@uncollected()
def load_records(folder: str | Path) -> tuple[list[Record], list[RecordError]]:
    """Every ``*.json`` under ``folder``, in the order of paths: the records, and an error for each other file.
    Two files with the same cell are an error too, and the first one is kept; but a failure (``KEY.failed.json``) beside
    the record of a later success is over. Skips hidden files. Changes nothing."""
    folder = Path(folder)
    if not folder.is_dir():
        return [], [RecordError(folder, "there is no such folder", "run some cells, or name another folder")]
    found: dict[str, tuple[Path, Record]] = {}
    errors: list[RecordError] = []
    there = sorted(folder.rglob("*.json"), key=lambda path: (path.name.endswith(FAILED), path.parts))
    above = len(folder.parts)
    paths = [one for one in there if not any(part.startswith(".") for part in one.parts[above:])]
    for path in paths:
        try:
            record = load_record(path)
        except RecordError as error:
            errors.append(error)
            continue
        first = found.setdefault(record.key, (path, record))[0]
        if first is not path and path != first.with_suffix(FAILED):
            errors.append(RecordError(path, f"key: the same cell as {first}", "keep one of the two files"))
    return [record for _, record in found.values()], errors


def _first_problem(error: ValidationError) -> str:
    first, *others = error.errors(include_url=False, include_context=False)
    where = ".".join(map(str, first["loc"])) or "record"
    message, got = first["msg"].removeprefix("Value error, "), first["input"]
    shown = f" (got {got!r})" if isinstance(got, str | int | float | bool) and len(str(got)) <= 60 else ""
    more = f", and {len(others)} more" if others else ""
    return f"{where}: {message}{shown}{more}"


@dataclass(frozen=True)
class Published:
    """The folders of one leaderboard."""

    records: Path

    @classmethod
    def around(cls, given: Path) -> Published:
        """The leaderboard of ``given``, which is its folder of records or the folder that holds it."""
        return cls(given / "records" if (given / "records").is_dir() else given)

    @property
    def verifications(self) -> Path:
        return self.records.parent / "verifications"

    @property
    def pages(self) -> Path:
        return self.records.parent / "pages"

    @property
    def studies(self) -> Path:
        return self.records.parent / "studies"

    @property
    def retired(self) -> Path:
        return self.records.parent / "retired.csv"
