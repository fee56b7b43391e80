"""Slurm's commands. Each answers within bounds, and what goes wrong is one line."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from backbench.errors import UserError

PATIENCE = 60.0  # seconds for an answer; a controller that is busy takes many
ARRAY = 1000  # cells in an array: Slurm's own limit, unless a site changed it
# States in which a job stays for as long as the controller remembers it.
ENDED = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT",
}  # fmt: skip


REMEDY = "correct the options or ask your site, or give --executor local"


class SlurmError(UserError):
    """Slurm is absent, does not answer, or refuses."""


def ask(*words: str, script: str = "") -> str:
    """What one of Slurm's commands prints. ``script`` is its standard input. Raises ``SlurmError``."""
    # Inside of a job, sbatch would take that job's settings for the new one's.
    kept = {name: text for name, text in os.environ.items() if not name.startswith("SLURM_") or name == "SLURM_CONF"}
    try:
        done = subprocess.run(words, input=script, capture_output=True, text=True, timeout=PATIENCE, env=kept)
    except FileNotFoundError:
        raise SlurmError(
            f"no command {words[0]} here: run it on a machine that submits to Slurm, or leave --executor out"
        ) from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"Slurm did not answer {words[0]} within {PATIENCE:.0f} s; try again later") from None
    if done.returncode:
        lines = [line.removeprefix(f"{words[0]}: ").removeprefix("error: ") for line in done.stderr.splitlines()]
        said = "; ".join(dict.fromkeys(line.strip() for line in lines if line.strip()))
        raise SlurmError(f"{words[0]} says: {said[:400] or f'exit status {done.returncode}'}; {REMEDY}")
    return done.stdout


def check(options: Mapping[str, str]) -> None:
    """Raise ``SlurmError`` unless Slurm would take a job with these options of sbatch. Nothing is submitted."""
    ask("sbatch", "--test-only", *_flags(options), script="#!/bin/sh\n")


def submit(folder: Path, cells: int, most: int, command: str, options: Mapping[str, str]) -> str:
    """Submit an array with the shell ``command`` for each cell, ``most`` at a time (0: any number); its job id.
    The folder's name is the array's.

    A job that is preempted, or whose machine fails, is queued again, and its log grows.
    """
    array = f"--array=0-{cells - 1}{f'%{most}' if most else ''}"
    log = f"--output={str(folder).replace('%', '%%')}/%a.log"
    words = ("--parsable", f"--job-name={folder.name}", array, log, "--open-mode=append", "--requeue", "--ntasks=1")
    said = ask("sbatch", *words, *_flags(options), script=f"#!/bin/sh\n{command}\n")
    return said.strip().partition(";")[0]


def _flags(options: Mapping[str, str]) -> Sequence[str]:
    return [f"--{name}={value}" for name, value in options.items() if value]


def queue() -> dict[tuple[str, int], tuple[str, str]]:
    """Name and index of each task of this user's arrays -> job id of the array, and state. Raises ``SlurmError``."""
    found = {}
    for line in ask("squeue", "--me", "--noheader", "--array", "--states=all", "--format=%j|%F|%K|%T").splitlines():
        name, job, index, state = (line.split("|") + [""] * 4)[:4]
        if index.isdigit():
            found[name, int(index)] = (job, state)
    return found


def cancel(jobs: Sequence[str]) -> None:
    """End jobs; those that run get SIGTERM first. Raises ``SlurmError``."""
    ask("scancel", *jobs)
