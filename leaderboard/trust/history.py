"""Whether records were only added: what the repository's history knows, and a record cannot."""

from __future__ import annotations

import subprocess
from pathlib import Path

from backbench.leaderboard.record.files import RecordError

_SAID = {"D": "was taken away", "M": "was changed", "T": "became something else than a file"}


def not_only_added(folder: Path, revision: str) -> list[str]:
    """How the records below ``folder`` are not those of ``revision`` with others added, a line each.

    Compared is the working tree with the last commit that its branch shares with ``revision``.

    Raises ``RecordError`` without git, outside a repository, or for a revision that is not there.
    """
    base = _git(folder, revision, "merge-base", "--end-of-options", revision, "HEAD").strip()
    names = _git(folder, revision, "diff", "--name-status", "--no-renames", "-z", "--relative", base, "--", ".")
    words = names.split("\0")
    return [
        f"{folder / name}: {_SAID.get(status, 'was changed')} since {revision}; records are only added: "
        f"git checkout {revision} -- {folder / name}"
        for status, name in zip(words[0::2], words[1::2], strict=False)
        if status != "A" and name.endswith(".json")
    ]


def _git(folder: Path, revision: str, *words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, check=True, timeout=60)
    except FileNotFoundError:
        raise RecordError("--since", "needs git", "install it, or leave --since out") from None
    except subprocess.TimeoutExpired:
        raise RecordError("--since", "git did not answer within a minute", "try git status") from None
    except subprocess.CalledProcessError as error:
        what = (error.stderr.decode(errors="replace").strip().splitlines() or ["git finds no common commit"])[0]
        remedy = "call it in a clone, with a revision that it has: --since origin/main"
        raise RecordError(f"--since {revision}", what.removeprefix("fatal: "), remedy) from None
    return done.stdout.decode(errors="surrogateescape")
