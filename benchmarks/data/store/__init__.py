"""The store of data sets on disk: Minari's files, a sidecar with hash and counts, and copies that open faster."""

from backbench.benchmarks.data.store.paths import (
    SIDECAR,
    check_there,
    exists,
    names,
    path_of,
    remedy,
    remove,
    root,
    size,
)  # fmt: skip
from backbench.benchmarks.data.store.reading import counts, digest, load, read, recorded_spaces, sidecar
from backbench.benchmarks.data.store.writing import clear_leftovers, staged, write, write_sidecar

__all__ = [
    "SIDECAR", "check_there", "clear_leftovers", "counts", "digest", "exists", "load", "names", "path_of", "read",
    "recorded_spaces", "remedy", "remove", "root", "sidecar", "size", "staged", "write", "write_sidecar",
]  # fmt: skip
