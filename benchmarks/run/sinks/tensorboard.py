"""TensorBoard as a log of a run: one folder a cell."""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from backbench.benchmarks.run.sinks.log import Log, flatten
from backbench.benchmarks.run.sinks.mlflow_view import board_metrics, final, tags
from backbench.leaderboard.board.board import build_board
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.views.text import to_markdown

FOLDER = "tensorboard"  # below the folder of results


class TensorBoard(Log[Any]):
    """``folder/KEY`` for each cell, ``folder/board`` for the command. An entry is a writer of torch's.

    A cell that resumes writes a second file beside the first, so steps after the checkpoint are there twice, with equal
    values. The package is imported when tracking starts.
    """

    tool = "TensorBoard"

    def __init__(self, folder: Path, *, warn: Callable[[str], None]) -> None:
        super().__init__(str(folder), f"tensorboard --logdir {shlex.quote(str(folder))}", warn)
        self.folder = folder

    def _writer(self, name: str) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.folder / name))

    def _begin(self, params: Mapping[str, Any]) -> None:
        self._run = self._writer("board")
        self._settings(self._run, params)

    def _open(self, key: str, params: Mapping[str, Any]) -> Any:
        writer = self._writer(key)
        self._settings(writer, params)
        return writer

    def _add(self, cell: Any, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            cell.add_scalar(name, value, step)

    def _note(self, cell: Any, name: str, text: str) -> None:
        cell.add_text(name, text)

    def _record(self, cell: Any, record: Record) -> None:
        if record.scores is not None:
            self._add(cell, record.scores.last.step, {f"final/{name}": value for name, value in final(record).items()})
        self._settings(cell, tags(record), "record")

    def _close(self, cell: Any, done: bool) -> None:
        cell.close()

    def leave(self, key: str) -> None:
        if (writer := self._cells.pop(key, None)) is not None:
            writer.close()

    def _board(self, records: Sequence[Record]) -> None:
        self._add(self._run, 0, board_metrics(records))
        self._run.add_text("board", to_markdown(build_board(records)))

    def _end(self, failed: bool) -> None:
        for writer in (*self._cells.values(), self._run):
            writer.close()

    def _settings(self, writer: Any, values: Mapping[str, Any], name: str = "settings") -> None:
        rows = (f"| {key} | `{json.dumps(value, default=str)}` |" for key, value in flatten(values).items())
        writer.add_text(name, "\n".join(("| setting | value |", "|---|---|", *rows)))
