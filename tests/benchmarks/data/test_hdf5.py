"""Foreign HDF5: what it declares is compared with what it holds, and nothing but its own numbers is read."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from backbench.benchmarks.data.hdf5 import Contents
from backbench.reading import ReadingError


def made(folder: Path, write: Callable[[Any], object]) -> Path:
    path = folder / "x.hdf5"
    with h5py.File(path, "w") as file:
        write(file)
    return path


def outside(file: Any) -> None:
    file["x"] = h5py.ExternalLink("/etc/hostname", "/")


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.hdf5", "y", (4,))
    file.create_virtual_dataset("x", layout)


def external(file: Any) -> None:
    file.create_dataset("x", (4,), "u1", external=[("/etc/hostname", 0, 4)])


def soft(file: Any) -> None:
    file["y"] = np.zeros(4)
    file["x"] = h5py.SoftLink("/y")


FILES: dict[str, tuple[Callable[[Any], object], str]] = {
    "external link": (outside, "has a link to elsewhere at 'x', which is not followed"),
    "soft link": (soft, "has a link to elsewhere at 'x'"),
    "virtual": (virtual, "whose content is in another file"),
    "external": (external, "whose content is in another file"),
    "objects": (lambda f: f.create_dataset("x", data=["a", "b"], dtype=h5py.string_dtype()), "not numbers"),
    "lists": (lambda f: f.create_dataset("x", (3,), h5py.vlen_dtype(np.float64)), "not numbers"),
    "records": (lambda f: f.create_dataset("x", (3,), [("a", "f4"), ("b", "f4")]), "not numbers"),
    "nothing there": (lambda f: f.create_dataset("x", (10**8,), "f4", chunks=(1000,)), "100,000 pieces are missing"),
    "nothing written": (lambda f: f.create_dataset("x", (10**8,), "f4"), "holds 0 of 400,000,000 bytes"),
    "large pieces": (lambda f: f.create_dataset("x", (10**9,), "f8", chunks=(10**8,)), "pieces of more than"),
    "no shape": (lambda f: f.create_dataset("x", data=h5py.Empty("f4")), "has no shape"),
    "absent": (lambda f: None, "has no 'x'"),
    "a group": (lambda f: f.create_group("x"), "which is no array"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_what_is_no_array_of_numbers_in_the_file_is_refused(tmp_path: Path, kind: str) -> None:
    write, said = FILES[kind]
    with Contents(made(tmp_path, write)) as file, pytest.raises(ReadingError, match=said):
        file.array("x")


def test_a_small_file_cannot_declare_gigabytes(tmp_path: Path) -> None:
    """Zeros compress a thousandfold, so every piece is there."""
    path = made(tmp_path, lambda f: f.create_dataset("x", data=np.zeros(2**24), chunks=(2**20,), compression="gzip"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Contents(path) as file, pytest.raises(ReadingError, match=r"declares more than its [\d,]+ bytes can hold"):
        file.array("x")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_one_array_under_many_names_counts_each_time(tmp_path: Path) -> None:
    def write(file: Any) -> None:
        file["a0"] = np.zeros(2**21)  # 16 MiB
        for number in range(1, 20):
            file[f"a{number}"] = file["a0"]

    with Contents(made(tmp_path, write)) as file, pytest.raises(ReadingError, match="declares more than"):
        _ = [file.array(name).size for name in file.names()]


def test_arrays_and_whole_numbers_are_read(tmp_path: Path) -> None:
    def write(file: Any) -> None:
        group = file.create_group("e")
        group["x"] = np.arange(6.0).reshape(3, 2)
        group.create_dataset("z", data=np.arange(4000), compression="gzip", shuffle=True, fletcher32=True)
        group["flags"] = np.array([True, False])
        group.attrs["id"], group.attrs["name"], group.attrs["list"] = 7, "text", [1, 2]

    with Contents(made(tmp_path, write)) as file:
        assert file.array("e", "x").tolist() == [[0, 1], [2, 3], [4, 5]]
        assert file.array("e", "flags").dtype == bool
        assert np.concatenate([*file.rows(("e", "z"), 1000)]).tolist() == list(range(4000))
        found = [file.integer(("e",), name) for name in ("id", "name", "list", "absent")]
    assert found == [7, None, None, None]
