"""``bench status``: what the files in a folder of results say of its runs. No engine is asked, and nothing is imported
that computes."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backbench import claims, reading, storage
from backbench.errors import UserError, require
from backbench.files import write_whole
from backbench.leaderboard.record.identity import SELECTION
from backbench.text import count

if TYPE_CHECKING:
    from backbench.benchmarks.plan.settings import Cell

PLANS = "runs"  # in the folder of results: ID.plan, JSON, for each grid that was run there
ORDER = ("done", "failed", "running", "stale", "queued", "left")
SHOWN = ("running", "stale", "failed")  # with a line each


@dataclass(frozen=True)
class State:
    """A cell of a plan, a word of ``ORDER``, and what there is to say about it."""

    key: str
    word: str
    note: str = ""


def note_plan(cells: Sequence[Cell], results: Path, command: Sequence[str]) -> None:
    """Note the cells of a run and its command. Running the same grid again notes the newer command."""
    keys = [cell.key for cell in cells]
    name = hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()[:12]
    path = results / PLANS / f"{name}.plan"
    write_whole(path, json.dumps({"command": shlex.join(command), "cells": keys}, indent=0))
    storage.disk(results).push(path)


def report(results: Path) -> Iterator[str]:
    """Lines on each run in ``results``, those that were started last at the end. UserError: none, or a broken file."""
    plans = sorted((results / PLANS).glob("[!.]*.plan"), key=lambda path: path.stat().st_mtime)
    require(bool(plans), f"{results} has no {PLANS}/*.plan, which bench run writes; name the folder of its --out")
    waiting = _queued(results)
    for path in plans:
        command, keys = _plan(path)
        yield from _lines(command, [state_of(key, results, key in waiting) for key in keys])


def _plan(path: Path) -> tuple[str, list[str]]:
    """The command and the keys of a plan. A key is a name: nothing outside the folder is looked at."""
    content = reading.read_json(path)
    command, keys = (content.get("command"), content.get("cells")) if isinstance(content, dict) else (None, None)
    names = isinstance(keys, list) and all(isinstance(key, str) and key == Path(key).name for key in keys)
    if not (isinstance(command, str) and names):
        raise UserError(f"{path} is no plan of a run; remove it, and bench run writes it anew")
    return command, keys  # type: ignore[return-value]  # a list of names


def _lines(command: str, states: Sequence[State]) -> Iterator[str]:
    counts = Counter(state.word for state in states)
    yield command
    trials = any(f".s{SELECTION}." in state.key for state in states)
    states_of = ", ".join(f"{counts[word]} {word}" for word in ORDER if counts[word])
    yield f"  {count(len(states), 'trial' if trials else 'cell')}: {states_of}"
    for word in SHOWN:
        for state in states:
            if state.word == word:
                yield f"  {word:8} {state.key}  {state.note}".rstrip()


def state_of(key: str, results: Path, queued: bool = False) -> State:
    """The state of a cell. A claim of another machine is believed until it has been silent for ``claims.LEASE``."""
    record, home = results / "records" / f"{key}.json", results / "checkpoints" / key
    if record.exists():
        return State(key, "done")
    if who := claims.holder_of(home):
        if (away := claims.silence(home)) > claims.LEASE:
            return State(key, "stale", f"{who}, silent for {away / 60:.0f} min")
        return State(key, "running", who)
    if (failure := record.with_suffix(".failed.json")).exists():
        return State(key, "failed", _reason(failure))
    return State(key, "queued" if queued else "left")


def _reason(path: Path) -> str:
    from backbench.leaderboard.record.files import RecordError, load_record

    try:
        failure = load_record(path).failure
    except RecordError as error:
        return str(error)
    return failure.message if failure is not None else ""


def _queued(results: Path) -> set[str]:
    """Keys of cells that were submitted to Slurm and, as far as their logs show, did not start."""
    found: dict[str, bool] = {}
    arrays = sorted((results / "slurm").glob("*/keys"), key=lambda path: path.stat().st_mtime)
    for path in arrays:
        for index, key in enumerate(reading.read_json(path)):
            found[str(key)] = not (path.parent / f"{index}.log").exists()
    return {key for key, waits in found.items() if waits}
