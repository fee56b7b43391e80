"""Read what others wrote: regular files only, within a declared size, and as plain values that are bounded too.

Every reader of a foreign file starts here (``tests/test_reading_rule.py`` holds that). ``docs/security.md`` lists the
limits. HDF5 has a module of its own, ``benchmarks/data/hdf5.py``, because its library is not imported here.
"""

import csv
import io
import json
import math
import os
import stat
import tokenize
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backbench.errors import UserError, first_line

MB = 1 << 20
KERNELS = 4 * MB  # more than a file in /proc has
DEPTH = 64  # levels of lists and mappings in JSON and YAML
NODES = 20_000  # values in a YAML file, with every alias written out
BLOCK = 1 << 18  # bytes that are decompressed at a time
HEADER = 10_000  # bytes of the header of a NumPy array


class ReadingError(UserError):
    """A file that is not read: ``path`` and ``problem`` make the line; a file that is absent is ``missing``."""

    def __init__(self, path: object, problem: str, missing: bool = False) -> None:
        self.path, self.problem, self.missing = path, " ".join(problem.split()), missing
        super().__init__(f"{path} {self.problem}")


def opened(path: Path | str, most: int) -> io.BufferedReader:
    """A regular file of at most ``most`` bytes, open for reading.

    Folders, pipes and devices are never waited for. Raises ``ReadingError``.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise ReadingError(path, f"cannot be read: {error.strerror or error}", missing) from error
    except ValueError as error:  # a path with a null byte
        raise ReadingError(repr(path), f"is no path ({error})", missing=True) from error
    found = os.fstat(handle)
    problem = ""
    if not stat.S_ISREG(found.st_mode):
        problem = "is a folder, expected a file" if stat.S_ISDIR(found.st_mode) else "is a pipe or device, not a file"
    elif found.st_size > most:
        problem = f"has {found.st_size:,} bytes; the limit is {most:,}"
    if problem:
        os.close(handle)
        raise ReadingError(path, problem)
    return os.fdopen(handle, "rb")


def content(path: Path | str, most: int) -> bytes:
    """The bytes of a file of at most ``most``. Raises ``ReadingError``."""
    with opened(path, most) as file:
        try:
            size = os.fstat(file.fileno()).st_size or KERNELS  # the kernel's own files say 0, such as those in /proc
            found = file.read(min(size, most) + 1)  # a file may grow
        except OSError as error:
            raise ReadingError(path, f"cannot be read: {error.strerror or error}") from error
    if len(found) > most:
        raise ReadingError(path, f"has more than {most:,} bytes, which is the limit")
    return found


def text(path: Path | str, most: int = MB) -> str:
    """The text of a UTF-8 file of at most ``most`` bytes. Raises ``ReadingError``."""
    try:
        return content(path, most).decode("utf-8")
    except UnicodeDecodeError:
        raise ReadingError(path, "is not UTF-8 text") from None


def read_json(path: Path | str, most: int = 16 * MB) -> Any:
    """The value of a JSON file of at most ``most`` bytes. Raises ``ReadingError``."""
    return parse_json(text(path, most), path)


def parse_json(written: str, path: object, infinite: bool = False) -> Any:
    """The value of JSON text; ``path`` is named in errors. ``infinite`` allows Infinity and -Infinity.

    Raises ``ReadingError`` for malformed text, a key that is there twice, a number that is not finite, and more than
    ``DEPTH`` levels.
    """

    def constants(constant: str) -> float:
        if infinite and constant != "NaN":
            return float(constant)
        raise ReadingError(path, f"is malformed JSON: {constant} is no number of JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ReadingError(path, f"is malformed JSON: the key {twice[:60]!r} is there twice")
        return found

    if not written.strip():
        raise ReadingError(path, "is empty")
    try:
        found = json.loads(written, parse_constant=constants, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        truncated = error.pos >= len(written.rstrip()) or error.msg.startswith("Unterminated string")
        what = "is JSON that ends too early (truncated)" if truncated else f"is malformed JSON: {error.msg}"
        raise ReadingError(path, f"{what} at line {error.lineno}, column {error.colno}") from None
    except ReadingError:
        raise
    except ValueError:  # Python reads no integer of more than 4300 digits
        raise ReadingError(path, "is malformed JSON: a number has too many digits") from None
    except RecursionError:
        raise ReadingError(path, f"is JSON with more than {DEPTH} levels") from None
    if infinite or "\\u" in written or not written.isascii() or _is_unusual(found):
        _check_plain(found, path, "JSON", infinite)
    return found


def _is_unusual(found: Any) -> bool:
    """Whether values that JSON gave are infinite, or in more than ``DEPTH`` levels."""
    level = [found]
    for _ in range(DEPTH):
        if [value for value in level if type(value) is float and value - value != 0]:
            return True
        containers = [value for value in level if type(value) is dict or type(value) is list]
        if not any(containers):
            return False
        level = [inner for value in containers for inner in (value.values() if type(value) is dict else value)]
    return True


def _check_plain(found: Any, path: object, kind: str, infinite: bool = False) -> None:
    """Raise ``ReadingError`` unless ``found`` has only values of JSON, finite numbers and at most ``DEPTH`` levels."""
    level: list[tuple[str, Any]] = [("", found)]
    for _ in range(DEPTH):
        below: list[tuple[str, Any]] = []
        plain = False  # whether the next level has values that need no second look, which are most
        for where, value in level:
            if isinstance(value, dict):
                for key, inner in value.items():
                    if not isinstance(key, str):
                        said = f"has the key {str(key)[:60]} that is no text{f' in {where}' if where else ''}"
                        raise ReadingError(path, f"{said}; write it in quotes")
                    _check_text(key, path)
                    if _is_plain(inner):
                        plain = True
                    else:
                        below.append((f"{where}.{key}".lstrip(".")[:120], inner))
            elif isinstance(value, list):
                odd = [(f"{where}.{index}"[:120], inner) for index, inner in enumerate(value) if not _is_plain(inner)]
                plain = plain or len(odd) < len(value)
                below += odd
            elif isinstance(value, str):
                _check_text(value, path)
            elif isinstance(value, float) and not math.isfinite(value) and not infinite:
                raise ReadingError(path, f"has a number that is not finite: {where or 'the value'}")
            elif not (value is None or isinstance(value, bool | int | float)):
                said = f"{where or 'the value'} is a {type(value).__name__}"
                raise ReadingError(path, f"has a value of another kind than JSON's: {said}; write it in quotes")
        level = below
        if not level and not plain:
            return
    raise ReadingError(path, f"is {kind} with more than {DEPTH} levels")


def _is_plain(value: Any) -> bool:
    """Whether a value is right wherever it stands."""
    kind = type(value)
    if kind is float:
        return math.isfinite(value)
    return value.isascii() if kind is str else kind is int or kind is bool or value is None


def _check_text(value: str, path: object) -> None:
    """Raise ``ReadingError`` for half of a surrogate pair, which no terminal and no file can show."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ReadingError(path, f"has text with half a character: {value[:60]!a}") from None


def read_yaml(path: Path | str, most: int = MB // 8) -> Any:
    """The value of a YAML file of at most ``most`` bytes, see ``parse_yaml``. Raises ``ReadingError``."""
    return parse_yaml(text(path, most), path)


def parse_yaml(written: str, path: object) -> Any:
    """The value of YAML text, of the kinds that JSON has: no dates, no tags, and text as keys.

    Aliases may stand for at most ``NODES`` values. Raises ``ReadingError``, which names ``path``.
    """
    import yaml

    try:
        loader = yaml.SafeLoader(written)
        node = loader.get_single_node()
        if node is None:
            return None
        _count_nodes(node, path, {})
        found = loader.construct_document(node)
    except ReadingError:
        raise
    except yaml.YAMLError as error:
        said = str(error).replace('in "<unicode string>", ', "").partition(":\n")[0]
        raise ReadingError(path, f"is not valid YAML ({' '.join(said.split())[:160]})") from error
    except RecursionError:
        raise ReadingError(path, f"is YAML with more than {DEPTH} levels") from None
    except (ValueError, TypeError, OverflowError, AttributeError, KeyError, IndexError) as error:
        # PyYAML raises these for a date such as 2001-99-99, a number of too many digits, or ``!!int x``.
        said = f"has a value that is not valid YAML ({first_line(error)}); write it in quotes"
        raise ReadingError(path, said) from None
    _check_plain(found, path, "YAML")
    return found


def _count_nodes(node: Any, path: object, known: dict[int, int]) -> int:
    """Values below a node with aliases written out. Refuses too many, circles, and two equal keys."""
    if (count := known.get(id(node))) is not None:
        if not count:
            raise ReadingError(path, f"is YAML with an alias for what it is part of{_at(node)}")
        return count
    known[id(node)] = 0
    count, seen = 1, set()
    for part in node.value if isinstance(node.value, list) else ():
        for inner in part if isinstance(part, tuple) else (part,):
            count += _count_nodes(inner, path, known)
        if isinstance(part, tuple):
            key = part[0]
            if not isinstance(key.value, str):
                raise ReadingError(path, f"has a list or mapping as a key{_at(key)}; write text")
            if key.value in seen:
                raise ReadingError(path, f"is not valid YAML (the key {key.value[:60]!r} twice{_at(key)})")
            seen.add(key.value)
    if count > NODES:
        raise ReadingError(path, f"is YAML of more than {NODES:,} values{_at(node)}, aliases written out")
    known[id(node)] = count
    return count


def _at(node: Any) -> str:
    return f" at line {node.start_mark.line + 1}, column {node.start_mark.column + 1}"


def parse_csv(written: str, path: object) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and the rows of CSV text; what a row lacks is empty. Raises ``ReadingError``."""
    lines = csv.DictReader(io.StringIO(written, newline=""), restval="")
    try:
        rows = [{key: value for key, value in line.items() if key is not None} for line in lines]
        return list(lines.fieldnames or ()), rows
    except csv.Error as error:
        raise ReadingError(path, f"is malformed CSV at line {lines.line_num}: {error}") from None


def npy_header(read: Callable[[int], bytes]) -> tuple[tuple[int, ...], bool, Any, int]:
    """Shape, Fortran order, type and length in bytes of a NumPy file's header; ``read(n)`` gives its next n bytes.

    Raises ``ValueError`` if it is none, or is longer than ``HEADER``.
    """
    import numpy as np

    start = read(8)
    if start[:6] != b"\x93NUMPY" or len(start) < 8:
        raise ValueError("it is no NumPy file")
    size = read(2 if start[6] == 1 else 4)
    length = int.from_bytes(size, "little")
    if length > HEADER:
        raise ValueError(f"its header declares {length:,} bytes")
    written = read(length)
    parse = np.lib.format.read_array_header_1_0 if start[6] == 1 else np.lib.format.read_array_header_2_0
    try:
        with warnings.catch_warnings(action="ignore"):  # headers that Python 2 wrote
            shape, fortran, dtype = parse(io.BytesIO(size + written))
    except (SyntaxError, tokenize.TokenError, RecursionError, MemoryError, TypeError, KeyError, OverflowError) as error:
        raise ValueError(f"its header is garbled ({first_line(error, 80)})") from error
    if any(type(one) is not int or not 0 <= one < 2**63 for one in shape):
        raise ValueError(f"its header has the shape {shape}")
    return shape, fortran, dtype, len(start) + len(size) + length


class Unzipped(io.RawIOBase):
    """The content of a gzip file, decompressed ``BLOCK`` by ``BLOCK``. Checksums are checked where a part ends.

    ``readinto`` and ``read`` raise ``EOFError`` for a truncated file and ``ReadingError`` for a damaged one.
    """

    def __init__(self, path: Path | str, most: int) -> None:
        self._path, self._file, self._zip, self._waiting = path, opened(path, most), zlib.decompressobj(31), b""

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, out: Any) -> int:
        view = memoryview(out).cast("B")
        while len(view):
            if self._zip.eof and not self._next_part():
                return 0
            last = not self._waiting and not (block := self._file.read(BLOCK))
            try:
                found = self._zip.decompress(self._waiting or (b"" if last else block), min(len(view), BLOCK))
            except zlib.error as error:
                raise ReadingError(self._path, f"is no gzip file, or is damaged ({first_line(error, 80)})") from error
            self._waiting = self._zip.unconsumed_tail
            if found:
                view[: len(found)] = found
                return len(found)
            if last and not self._zip.eof:
                raise EOFError
        return 0

    def _next_part(self) -> bool:
        """Go to the part that follows, if any does. Zeros may pad the file."""
        self._waiting = self._zip.unused_data.lstrip(b"\0")
        while not self._waiting:
            if not (block := self._file.read(BLOCK)):
                return False
            self._waiting = block.lstrip(b"\0")
        self._zip = zlib.decompressobj(31)
        return True


def check_safetensors(path: Path | str, most: int = 64 * 1024 * MB) -> None:
    """Raise ``ReadingError`` unless a file can be safetensors: regular, with a header of at most 16 MiB inside it."""
    with opened(path, most) as file:
        size, start = os.fstat(file.fileno()).st_size, file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > min(16 * MB, size - 8):
        raise ReadingError(path, f"is no safetensors file, or was truncated: its header declares {length:,} bytes")
