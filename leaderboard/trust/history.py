"""Whether records were only added, or retired: removed with a reason in ``retired.csv``."""

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from backbench import reading
from backbench.leaderboard.record.files import MOST, Published, RecordError

_NEEDED = ("key", "reason")


def parse_retired(text: str, path: Path) -> dict[str, str]:
    """Key of a record -> why it was retired, from the text of ``retired.csv``; ``path`` is named in errors.
    Raises ``RecordError`` for a missing column, a row without key or reason, and a key that is listed twice."""
    try:
        columns, lines = reading.parse_csv(text, path)
    except reading.ReadingError as error:
        raise RecordError(path, error.problem, "restore it: git checkout") from None
    if missing := [name for name in _NEEDED if name not in columns]:
        raise RecordError(path, f"has no column {missing[0]!r}", "restore it: git checkout")
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=2):
        key, reason = (line[name].strip() for name in _NEEDED)
        if not key or not reason:
            raise RecordError(path, f"line {number} lacks a key or a reason", "write both")
        if key in found:
            raise RecordError(path, f"line {number} lists {key} again", "remove the line")
        found[key] = reason
    return found


def read_retired(published: Published) -> dict[str, str]:
    """Key of each retired record -> reason; empty where there is no list. Raises as ``parse_retired`` does."""
    path = published.retired
    try:
        return parse_retired(reading.text(path), path)
    except reading.ReadingError as error:
        if error.missing:
            return {}
        raise RecordError(path, error.problem, "restore it: git checkout") from None


def wrongly_retired(published: Published) -> Iterator[str]:
    """What is wrong with the list of retired records, a line each. Such a record must not be published any more."""
    try:
        retired = read_retired(published)
    except RecordError as error:
        yield str(error)
        return
    there = {path.stem: path for path in sorted(published.records.rglob("*.json"))}
    for key in retired:
        if key in there:
            yield f"{published.retired}: lists {key}, and {there[key]} is there; remove the file or the line"


def not_only_added(published: Published, revision: str) -> list[str]:
    """How published files differ from ``revision`` other than by added and retired records, a line each.
    The check compares the working tree with the last commit that its branch shares with ``revision``. Raises
    ``RecordError`` without git, outside a repository, for an unknown revision, or for a broken ``retired.csv``."""
    base = _git(published, revision, "merge-base", "--end-of-options", revision, "HEAD").strip()
    retired = read_retired(published)
    records = PurePosixPath(_git(published, revision, "rev-parse", "--show-prefix").rstrip("\n"))
    lines = []
    tree = _git(published, revision, "ls-tree", "-r", "-z", "--full-tree", base)
    for entry in tree.split("\0")[:-1]:
        about, _, path_below_root = entry.partition("\t")
        name, blob = PurePosixPath(path_below_root), about.split()[2]
        if name == records.parent / "retired.csv":
            text = _git(published, revision, "cat-file", "blob", blob)
            lines += [
                f"{published.retired}: its line for {key} was removed since {revision}; restore the line"
                for key in parse_retired(text, published.retired)
                if key not in retired
            ]
        path = _today(name, records, published)
        if path is None or not (what := _change(path, blob)):
            continue
        key = path.stem.rpartition(".")[0] if path.is_relative_to(published.verifications) else path.stem
        if not path.exists() and key in retired:
            continue
        remedy = "" if path.exists() else f", or list it in {published.retired} with the reason"
        undo = f"git show {revision}:{name} > {path}{remedy}"
        lines.append(f"{path}: {what} since {revision}; records are only added: {undo}")
    return lines


def _today(name: PurePosixPath, records: PurePosixPath, published: Published) -> Path | None:
    """Where the record or verification ``name`` of an older commit lies today; None for any other file.
    ``records``: the folder of records, below the repository's root. Older commits have no folder ``published``."""
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
    kind = "sha1" if len(blob) == 40 else "sha256"  # of the repository's objects
    try:
        content = reading.content(path, MOST)
    except reading.ReadingError as error:
        return error.problem
    same = hashlib.new(kind, b"blob %d\0" % len(content) + content).hexdigest() == blob
    return "" if same else "was changed"


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
