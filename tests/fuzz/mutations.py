"""Damage to files: of their bytes, and of what the bytes mean. Every mutation is a function of a seeded ``Random``."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
import yaml

Mutation = Callable[[bytes, Random], bytes]
ODD: list[Any] = [
    None, True, -1, 0, 1, 2, 10**9, 10**18, -(10**30), 10**400, 0.5, -0.0, 1e-320, 1.7e308, float("inf"), float("nan"),
    "", "x", "-1", "1e9", "../../x", "/etc/passwd", "os:system", "a" * 3000, "[/red]\x1b[31m", "\ud800", "é\u202e",
    "2001-99-99", [], {}, [[]], [None], {"": 1}, {"a": {"b": {}}}, [1, "2", None], [[1, 2], [3]], "null", "~", "${x}",
]  # fmt: skip

WORDS = [
    "&a", "*a", "!!set", "!!binary", "!!int", "? [x]", "<<:", "2001-01-01", "0x1F", "1:30", ".nan", "|", "---",
    "!!python/name:os.system", "- ", "{", "[", "\t", "%", "@", "'", '"', "9" * 5000, "[" * 400,
]  # fmt: skip


def of_bytes(content: bytes, rng: Random) -> bytes:
    """Flip, overwrite, truncate, repeat, remove or insert; often near the start, where headers are."""
    found = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 5, 20])):
        if not found:
            return b""
        reach = len(found) if rng.random() < 0.6 else min(len(found), rng.choice([16, 128, 1024, 8192]))
        at = rng.randrange(reach)
        span = min(len(found) - at, rng.choice([1, 1, 2, 4, 8, 64, 512]))
        match rng.randrange(8):
            case 0 | 1:
                found[at] ^= 1 << rng.randrange(8)
            case 2:
                found[at : at + span] = rng.randbytes(span)
            case 3:
                found[at : at + span] = rng.choice([b"\0", b"\xff", b"\x7f", b"\x80"]) * span
            case 4:
                del found[at:]
            case 5:
                found[at:at] = found[at : at + span] * rng.choice([1, 2, 50])
            case 6:
                del found[at : at + span]
            case 7:
                found[at:at] = rng.randbytes(span)
    return bytes(found)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values within a value, those in JSON texts included."""
    inner = _as_json(value)
    inside = inner.items() if isinstance(inner, dict) else enumerate(inner) if isinstance(inner, list) else ()
    return [path, *(place for key, one in inside for place in _places(one, (*path, key)))]


def _as_json(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _changed(value: Any, path: tuple[Any, ...], rng: Random) -> Any:
    """``value`` with something odd at ``path``; a text that is JSON stays one."""
    if not path:
        match rng.randrange(5):
            case 0 if isinstance(value, int | float):
                return rng.choice([-value, value + 1, value * 10**6, float(value), str(value), [value]])
            case 1 if isinstance(value, list) and value:
                return value * rng.choice([0, 2, 1000]) if rng.random() < 0.7 else value[:-1]
            case 2:
                for _ in range(rng.choice([1, 3, 100, 400])):
                    value = [value] if rng.random() < 0.5 else {"a": value}
                return value
        return rng.choice(ODD)
    inner, (key, *rest) = _as_json(value), path
    made = dict(inner) if isinstance(inner, dict) else list(inner)
    if not rest and isinstance(made, dict) and rng.random() < 0.3:
        old = made.pop(key)
        if rng.random() < 0.5:
            made[rng.choice(["", "x", f"{key}s", str(key).upper()])] = old
    else:
        made[key] = _changed(inner[key], tuple(rest), rng)
    return _dumped(made) if isinstance(value, str) else made


def _dumped(value: Any) -> str:
    try:
        return json.dumps(value)
    except (RecursionError, ValueError):
        return "[" * 5000


def _structure(value: Any, rng: Random) -> Any:
    for _ in range(rng.choice([1, 1, 2, 4])):
        try:
            places = _places(value)
        except RecursionError:  # it was nested the time before
            break
        value = _changed(value, rng.choice(places[1:] or [()]), rng)
        if not isinstance(value, dict | list):
            break
    return value


def of_json(content: bytes, rng: Random) -> bytes:
    """Odd values, missing and renamed keys, deep nesting; a third of the time bytes."""
    if rng.random() < 0.3:
        return of_bytes(content, rng)
    return _dumped(_structure(json.loads(content), rng)).encode("utf-8", "surrogatepass")


def of_yaml(content: bytes, rng: Random) -> bytes:
    """As ``of_json``, and odd words of YAML in place of one of the file's."""
    chance = rng.random()
    if chance < 0.3:
        return of_bytes(content, rng)
    if chance < 0.6:
        words = content.decode().split(" ")
        words[rng.randrange(len(words))] = rng.choice(WORDS)
        return " ".join(words).encode()
    try:
        return yaml.safe_dump(_structure(yaml.safe_load(content), rng), allow_unicode=True).encode("utf-8", "replace")
    except (RecursionError, yaml.YAMLError):
        return b"[" * 500


def of_csv(content: bytes, rng: Random) -> bytes:
    """Odd cells and lines; half of the time bytes."""
    if rng.random() < 0.5:
        return of_bytes(content, rng)
    lines = content.decode().split("\n")
    at = rng.randrange(len(lines))
    lines[at] = rng.choice(
        ["", '"', ",,,,", "\r\r", "a" * 200_000, "\0", lines[at] * 2, lines[0], '"a\nb",c', "é,\u2028"]
    )
    return "\n".join(lines).encode()


def of_gzip(content: bytes, rng: Random) -> bytes:
    """Change what is packed, at its header more often than not; else the file's bytes."""
    if rng.random() < 0.4:
        return of_bytes(content, rng)
    inside = bytearray(gzip.decompress(content))
    match rng.randrange(4):
        case 0:  # another version and length of the header
            inside[6:10] = rng.choice([b"\x01\x00", b"\x02\x00", b"\x03\x00"]) + rng.randbytes(2)
        case 1:
            shapes = [
                b"(1000000000,)",
                b"(-1,)",
                b"()",
                b"(2,)",
                b"(True,)",
                b"(1e3,)",
                b"(99999999999999999999,)",
                b"((",
            ]
            inside = inside.replace(b"'shape': (", b"'shape': " + rng.choice(shapes) + b" + (", 1)
        case 2:
            inside = inside.replace(b"'<", b"'" + rng.choice([b">", b"|O", b"=", b"V"]), 1)
        case 3:
            inside[:200] = of_bytes(bytes(inside[:200]), rng)
    return gzip.compress(bytes(inside), 1)


def of_hdf5(content: bytes, rng: Random) -> bytes:
    """Replace an array by one of another type, shape, layout or place; else the file's bytes."""
    if rng.random() < 0.6:
        return of_bytes(content, rng)
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = rng.choice(names)
        if isinstance(file[name], h5py.Group) and rng.random() < 0.6:
            attribute = rng.choice(["id", "total_steps", "seed", "more"])
            file[name].attrs[attribute] = rng.choice([-1, 10**15, 0.5, "x", [1, 2], np.zeros((3, 3)), h5py.Empty("f4")])
            return _closed(file, buffer)
        found, old = file[name], None
        if isinstance(found, h5py.Dataset) and found.shape and found.dtype.kind in "bfiu":
            old = found[()]
        del file[name]
        _put(file, name, old, rng)
        return _closed(file, buffer)


def _closed(file: Any, buffer: io.BytesIO) -> bytes:
    file.close()
    return buffer.getvalue()


def _put(file: Any, name: str, old: Any, rng: Random) -> None:
    """Something else under ``name``; ``old`` is the array that was there, None for a group."""
    match rng.randrange(9):
        case 0:
            file[name] = h5py.SoftLink("/")
        case 1:
            file[name] = h5py.ExternalLink("/etc/hostname", "/x")
        case 2:
            file.create_group(name)
        case 3 if old is not None:
            rows, rest = rng.choice([0, 1, 10**6, 10**9, 2**40]), old.shape[1:]
            piece = (rng.choice([1, 2**20]), *(max(1, n) for n in rest))
            file.create_dataset(name, (rows, *rest), old.dtype, chunks=piece, maxshape=(None, *rest))
        case 4 if old is not None:
            file[name] = old.astype(rng.choice(["f2", "f8", "i1", "u8", "S3", "c8", "bool"]))
        case 5 if old is not None:
            file[name] = old.reshape(-1)[: rng.randrange(old.size + 1)]
        case 6 if old is not None:
            file.create_dataset(name, data=["a", "b"], dtype=h5py.string_dtype())
        case 7 if old is not None:
            copy = np.array(old)
            copy.reshape(-1)[rng.randrange(copy.size)] = (
                rng.choice([0, 1]) if copy.dtype == bool else rng.choice([100, -1])
            )
            file[name] = copy
        case _:
            pass


BY_ENDING: dict[str, Mutation] = {
    ".json": of_json, ".yaml": of_yaml, ".csv": of_csv, ".gz": of_gzip, ".hdf5": of_hdf5,
}  # fmt: skip


def mutate(path: Path, content: bytes, rng: Random) -> bytes:
    """A mutation that fits the kind of the file. It may be the same bytes."""
    try:
        return BY_ENDING.get(path.suffix, of_bytes)(content, rng)
    except (ValueError, TypeError, OSError, OverflowError):  # there is no such file
        return of_bytes(content, rng)
