"""Whether records were only added or retired: the repository's history knows, a record does not."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path, PurePosixPath

from backbench.leaderboard.record.files import RecordError
from backbench.leaderboard.record.published import Published
from backbench.leaderboard.trust.retired import parse_retired, read_retired


def not_only_added(published: Published, revision: str) -> list[str]:
    """How published files differ from ``revision`` other than by added and retired records, a line each.

    The check compares the working tree with the last commit that its branch shares with ``revision``. A record may be
    missing if ``retired.csv`` lists it. A line of ``retired.csv`` may not be removed.

    Raises ``RecordError`` without git, outside a repository, for an unknown revision, or for a broken ``retired.csv``.
    """
    base = _git(published, revision, "merge-base", "--end-of-options", revision, "HEAD").strip()
    retired = read_retired(published)
    records = PurePosixPath(_git(published, revision, "rev-parse", "--show-prefix").rstrip("\n"))
    lines = []
    for name, blob in _blobs(published, revision, base):
        if name == records.parent / "retired.csv":
            text = _git(published, revision, "cat-file", "blob", blob)
            lines += [
                f"{published.retired}: its line for {key} was removed since {revision}; restore the line"
                for key in parse_retired(text, published.retired)
                if key not in retired
            ]
        path = _today(name, records, published)
        what = "" if path is None else _change(path, blob)
        if path is None or not what or (not path.exists() and _key(path, published) in retired):
            continue
        remedy = "" if path.exists() else f", or list it in {published.retired} with the reason"
        lines.append(
            f"{path}: {what} since {revision}; records are only added: git show {revision}:{name} > {path}{remedy}"
        )
    return lines


def _blobs(published: Published, revision: str, base: str) -> list[tuple[PurePosixPath, str]]:
    """(path below the root of the repository, hash) of every file of the commit ``base``."""
    tree = _git(published, revision, "ls-tree", "-r", "-z", "--full-tree", base)
    entries = (entry.partition("\t") for entry in tree.split("\0")[:-1])
    return [(PurePosixPath(name), about.split()[2]) for about, _, name in entries]


def _today(name: PurePosixPath, records: PurePosixPath, published: Published) -> Path | None:
    """Where the record or verification ``name`` of an older commit lies today; None for any other file.

    ``records``: the folder of records, below the root of the repository. Older commits have no folder ``published``:
    there records and verifications lie in the folder around it.
    """
    homes = {records: published.records, records.parent / "verifications": published.verifications}
    if records.parent.name == "published":
        around = records.parent.parent
        homes |= {around / "records": published.records, around / "verifications": published.verifications}
    home = next((home for home in homes if name.is_relative_to(home)), None)
    return None if home is None or name.suffix != ".json" else homes[home] / name.relative_to(home)


def _change(path: Path, blob: str) -> str:
    """What happened to a file that had the hash ``blob``; empty for nothing."""
    if not path.exists() and not path.is_symlink():
        return "was removed"
    if path.is_symlink() or not path.is_file():
        return "is no longer a file"
    content = path.read_bytes()
    kind = "sha1" if len(blob) == 40 else "sha256"  # of the repository's objects
    same = hashlib.new(kind, b"blob %d\0" % len(content) + content).hexdigest() == blob
    return "" if same else "was changed"


def _key(path: Path, published: Published) -> str:
    """Key of the record that a file holds or verifies."""
    verifies = path.is_relative_to(published.verifications)
    return path.stem.rpartition(".")[0] if verifies else path.stem


def _git(published: Published, revision: str, *words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=published.records, capture_output=True, check=True, timeout=60)
    except FileNotFoundError:
        raise RecordError("--since", "needs git", "install it, or omit --since") from None
    except subprocess.TimeoutExpired:
        raise RecordError("--since", "git did not answer within a minute", "try git status") from None
    except subprocess.CalledProcessError as error:
        what = (error.stderr.decode(errors="replace").strip().splitlines() or ["git finds no common commit"])[0]
        remedy = "call it in a clone, with a revision that it has: --since origin/main"
        raise RecordError(f"--since {revision}", what.removeprefix("fatal: "), remedy) from None
    return done.stdout.decode(errors="surrogateescape")
