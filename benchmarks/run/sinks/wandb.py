"""Weights & Biases as a log of a run: one of its runs a cell, in a group that is the folder of results."""

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from backbench.benchmarks.run.sinks.log import Log, folder_id
from backbench.benchmarks.run.sinks.mlflow_view import board_metrics, final, tags
from backbench.errors import UserError
from backbench.leaderboard.record.schema import Record

PROJECT = "backbench"


class WandB(Log[Any]):
    """An entry is a run of ``wandb``'s. Offline runs lie in ``results/wandb``; ``wandb sync`` sends them.

    Raises:
        UserError: it would have to ask for a key, which a job cannot answer.
    """

    tool = "Weights & Biases"

    def __init__(self, results: Path, project: str, *, warn: Callable[[str], None]) -> None:
        import wandb

        self.results, self.project = results, project
        self._wandb = wandb
        mode = os.environ.get("WANDB_MODE") or wandb.setup().settings.mode
        offline = mode in ("offline", "dryrun", "disabled")
        send = f"wandb sync {shlex.quote(str(results))}/wandb/offline-run-*"
        super().__init__(f"project {project}", send if offline else f"https://wandb.ai, project {project}", warn)
        if not offline and not wandb.login(prompt=False):
            raise UserError("--track wandb: there is no key; run `wandb login`, or set WANDB_MODE=offline")

    def _start(self, name: str, kind: str, params: Mapping[str, Any]) -> Any:
        """A run with the same id for the same name and folder, so that a cell that resumes goes on."""
        return self._wandb.init(
            project=self.project, name=name, group=self._folder, job_type=kind, config=dict(params), resume="allow",
            id=sha256(f"{self._folder} {name}".encode()).hexdigest()[:16], dir=str(self.results), reinit="create_new",
            settings=self._wandb.Settings(
                silent=True, console="off", disable_git=True, disable_code=True, x_disable_stats=True,
                x_disable_machine_info=True,
            ),
        )  # fmt: skip

    def _begin(self, params: Mapping[str, Any]) -> None:
        self.results.mkdir(parents=True, exist_ok=True)
        self._folder = folder_id(self.results)
        self._run = self._start(str(params.get("name", "bench")), "command", params)

    def _open(self, key: str, params: Mapping[str, Any]) -> Any:
        return self._start(key, "cell", params)

    def _add(self, cell: Any, step: int, values: Mapping[str, float]) -> None:
        cell.log(dict(values), step=step)

    def _note(self, cell: Any, name: str, text: str) -> None:
        cell.summary[name] = text

    def _record(self, cell: Any, record: Record) -> None:
        cell.config.update(tags(record), allow_val_change=True)
        cell.summary.update(final(record))

    def _close(self, cell: Any, done: bool) -> None:
        cell.finish(exit_code=0 if done else 1)

    def leave(self, key: str) -> None:
        if (run := self._cells.pop(key, None)) is not None:
            run.finish(exit_code=0)

    def _board(self, records: Sequence[Record]) -> None:
        self._run.summary.update(board_metrics(records))

    def _end(self, failed: bool) -> None:
        for run in self._cells.values():
            run.finish(exit_code=1)
        self._run.finish(exit_code=1 if failed else 0)
        self._wandb.teardown()
