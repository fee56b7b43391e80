"""Foreign files as plain values: what is no regular file, too large, too deep or odd is one line, at once."""

from __future__ import annotations

import gzip
import io
import os
import time
from pathlib import Path

import numpy as np
import pytest

from backbench import reading
from backbench.reading import MB, ReadingError, Unzipped


def test_a_pipe_a_device_and_a_folder_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    began = time.monotonic()
    for path, said in ((tmp_path / "pipe", "is a pipe or device"), ("/dev/zero", "is a pipe"), (tmp_path, "a folder")):
        with pytest.raises(ReadingError, match=said):
            reading.content(path, MB)
    assert time.monotonic() - began < 5


def test_what_is_larger_than_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ReadingError, match=r"has 1,099,511,627,776 bytes; the limit is 1,048,576"):
        reading.text(path)


def test_an_absent_file_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ReadingError) as caught:
        reading.text(tmp_path / "none")
    assert caught.value.missing


YAML = {
    "tasks: 2001-99-99": "month must be in 1..12",
    "tasks: 2001-01-01": "tasks is a date; write it in quotes",
    "? [1, 2]\n: 3": "has a list or mapping as a key at line 1, column 3",
    "2024: {}": "has the key 2024 that is no text; write it in quotes",
    "a: {b: {1: 2}}": "has the key 1 that is no text in a.b",
    "a: &a [*a]": "an alias for what it is part of",
    "a: 1\na: 2": "the key 'a' twice at line 2",
    "a: !!python/object/apply:os.system [ls]": "could not determine a constructor",
    "a: !!set {b, c}": "a is a set",
    "a: .inf": "is not finite: a",
    "a: " + "9" * 5000: "4300 digits",
    "[" * 5000: "more than 64 levels",
    "[" * 70 + "]" * 70: "more than 64 levels",
    'a: "\x00"': "special characters are not allowed",
}


@pytest.mark.parametrize("written", YAML, ids=lambda text: text[:24])
def test_odd_yaml_is_one_line(written: str) -> None:
    with pytest.raises(ReadingError) as caught:
        reading.parse_yaml(written, "mine.yaml")
    assert YAML[written] in str(caught.value)
    assert str(caught.value).startswith("mine.yaml ")
    assert "\n" not in str(caught.value)


def test_an_alias_bomb_is_refused_before_it_is_written_out() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    began = time.monotonic()
    with pytest.raises(ReadingError, match="more than 20,000 values at line 5"):
        reading.parse_yaml("\n".join(lines), "bomb.yaml")
    assert time.monotonic() - began < 5


def test_aliases_within_the_limit_stay() -> None:
    assert reading.parse_yaml("a: &x [1, 2]\nb: *x", "mine.yaml") == {"a": [1, 2], "b": [1, 2]}


JSON = {
    "": "is empty",
    '{"a": ': "ends too early (truncated) at line 1",
    '{"a" 1}': "malformed JSON: Expecting ':'",
    "[NaN]": "NaN is no number of JSON",
    '{"a": [1e999]}': "is not finite: a.0",
    '{"a": 1, "a": 2}': "the key 'a' is there twice",
    "[" * 100_000: "more than 64 levels",
    "[" * 65 + "]" * 65: "more than 64 levels",
    "9" * 5000: "too many digits",
    '"\\ud800"': "half a character",
}


@pytest.mark.parametrize("written", JSON, ids=lambda text: text[:16])
def test_odd_json_is_one_line(written: str) -> None:
    with pytest.raises(ReadingError) as caught:
        reading.parse_json(written, "x.json")
    assert JSON[written] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_gzip_in_parts_with_padding_reads_as_python_reads_it(tmp_path: Path) -> None:
    parts = [os.urandom(300_000), b"", b"\0" * 3_000_000, b"end"]
    path = tmp_path / "x.gz"
    path.write_bytes(b"".join(map(gzip.compress, parts)) + b"\0" * 600_000)
    with io.BufferedReader(Unzipped(path, MB)) as file:
        assert file.read() == b"".join(parts)
    path.write_bytes(gzip.compress(b"abc" * 1000)[:-5])
    with pytest.raises(EOFError), Unzipped(path, MB) as file:
        file.readall()


def test_a_numpy_header_that_declares_gigabytes_is_refused_unread() -> None:
    asked: list[int] = []
    content = io.BytesIO(b"\x93NUMPY\x02\x00" + (4_000_000_000).to_bytes(4, "little"))

    def read(count: int) -> bytes:
        asked.append(count)
        return content.read(count)

    with pytest.raises(ValueError, match="declares 4,000,000,000 bytes"):
        reading.npy_header(read)
    assert max(asked) == 8


def test_numpy_headers_of_both_versions_are_read() -> None:
    for version in ((1, 0), (2, 0)):
        file = io.BytesIO()
        np.lib.format.write_array(file, np.zeros((3, 2), np.int32), version=version)
        file.seek(0)
        assert reading.npy_header(file.read)[:3] == ((3, 2), False, np.dtype(np.int32))
        assert file.tell() == reading.npy_header(io.BytesIO(file.getvalue()).read)[3]


def test_a_safetensors_header_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes((10**15).to_bytes(8, "little") + b"{}")
    with pytest.raises(ReadingError, match="its header declares 1,000,000,000,000,000 bytes"):
        reading.check_safetensors(path)


def test_the_kernel_s_own_files_are_read_although_they_say_that_they_are_empty() -> None:
    path = Path("/proc/cpuinfo")
    assert path.stat().st_size == 0
    assert "processor" in reading.text(path)
    with pytest.raises(reading.ReadingError, match="has more than 10 bytes"):
        reading.text(path, 10)
