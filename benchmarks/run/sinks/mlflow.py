"""MLflow as a log of a run, and its database on this machine."""

import logging
import os
import re
import shlex
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from backbench import owner
from backbench.benchmarks.run.sinks.log import Log, flatten, folder_id
from backbench.benchmarks.run.sinks.mlflow_view import DESCRIPTION, VIEW, board_metrics, final, tags
from backbench.claims import alone
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.views.export import pages_of
from backbench.text import SQLITE, path_url, url_path

EXPERIMENT = "backbench"
DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"
# MLflow's own limits; it raises past them.
MAX_KEY, MAX_PARAM, MAX_TAG = 250, 6000, 5000
MAX_PARAMS_PER_BATCH, MAX_METRICS_PER_BATCH = 100, 1000
REMOTE = ("http://", "https://", "databricks")


class MLflow(Log[str]):
    """One parent run per command, one child per cell. An entry is the id of a run.

    ``results`` is the folder of the run. By default the database is ``mlflow.db`` and artifacts are in ``mlartifacts``
    there. ``uri`` is any MLflow tracking URI instead. Metrics are sent when ``flush_every`` of them wait or the last
    were sent ``flush_seconds`` ago. A client of its own writes, without global state. MLflow is imported when tracking
    starts, since that takes seconds.
    """

    tool = "MLflow"

    def __init__(
        self,
        results: str | Path,
        uri: str | None = None,
        *,
        warn: Callable[[str], None],
        flush_every: int = 100,
        flush_seconds: float = 10.0,
    ) -> None:
        self.results = Path(results).absolute()
        self.uri = uri or path_url(self.results / DATABASE, SQLITE)
        out = "" if Path(results) == Path("results") else f" --out {shlex.quote(str(results))}"
        super().__init__(self.uri, uri or f"bench ui{out}", warn)
        self.experiment = ""
        self._flush_every = min(flush_every, MAX_METRICS_PER_BATCH)
        self._flush_seconds = flush_seconds
        self._client: Any = None
        self._parent = ""
        self._waiting: dict[str, list[Any]] = {}  # run id -> metrics not sent yet
        self._sent = time.monotonic()

    def _begin(self, params: Mapping[str, Any]) -> None:
        self._connect()
        self._end_dead()
        name = str(params.get("name", "bench"))
        labels = {"kind": "run", "folder": folder_id(self.results), "owner": owner.me()}
        run = self._client.create_run(self.experiment, run_name=name, tags=labels)
        self._parent = run.info.run_id
        self._params(self._parent, params)

    def _open(self, key: str, params: Mapping[str, Any]) -> str:
        labels = {"mlflow.parentRunId": self._parent, "status": "running"}
        unfinished = self._search(f"tags.cell = '{_key(key)}' and attributes.status != 'FINISHED'")
        if unfinished:
            again = str(unfinished[0].info.run_id)
            self._client.update_run(again, status="RUNNING")
            for name, value in labels.items():
                self._client.set_tag(again, name, value)
            return again
        labels |= {"kind": "cell", "cell": _key(key), "folder": folder_id(self.results)}
        run = str(self._client.create_run(self.experiment, run_name=_key(key), tags=labels).info.run_id)
        self._params(run, params)
        return run

    def _add(self, cell: str, step: int, values: Mapping[str, float]) -> None:
        self._collect(cell, step, values)
        waiting = sum(map(len, self._waiting.values()))
        if waiting >= self._flush_every or time.monotonic() - self._sent > self._flush_seconds:
            self._flush()

    def _note(self, cell: str, name: str, text: str) -> None:
        self._client.set_tag(cell, _key(name), text[:MAX_TAG])

    def _record(self, cell: str, record: Record) -> None:
        """Last metrics, tags, ``record.json`` and ``config.json``."""
        if record.scores is not None:
            self._collect(cell, record.scores.last.step, final(record))
        for name, value in tags(record).items():
            self._note(cell, name, value)
        self._client.log_text(cell, record.model_dump_json(indent=1), "record.json")
        self._client.log_dict(cell, dict(record.provenance.config), "config.json")

    def _close(self, cell: str, done: bool) -> None:
        self._flush()
        self._client.set_terminated(cell, status="FINISHED" if done else "FAILED")

    def leave(self, key: str) -> None:
        self._waiting.pop(self._cells.pop(key, ""), None)

    def _board(self, records: Sequence[Record]) -> None:
        """Aggregates as metrics, the pages as artifacts."""
        for name, value in board_metrics(records).items():
            self._client.log_metric(self._parent, _key(name), value)
        for path, text in pages_of(records, folder=None, repository=None).items():
            self._client.log_text(self._parent, text, f"board/{path}")

    def _end(self, failed: bool) -> None:
        self._flush()
        for run in self._cells.values():
            self._client.set_terminated(run, status="KILLED")
        self._client.set_terminated(self._parent, status="FAILED" if failed else "FINISHED")

    def _connect(self) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow reads it when it is imported
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # three lines a cell
        # The default against a server that is gone is minutes of retries, with the run waiting.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        local = not self.uri.startswith(REMOTE)
        if local:
            self.results.mkdir(parents=True, exist_ok=True)
        if not self.uri.startswith(("sqlite:", f"{SQLITE}:")):
            self._reach(local)
            return
        database = url_path(self.uri)
        _check_sqlite(database)
        with alone(self.results / ".claim-mlflow"):  # two processes that migrate one new database both fail
            self._reach(local)
            relocate(database, self.results / ARTIFACTS)

    def _reach(self, local: bool) -> None:
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):  # a new database would print a line per migration
            logging.getLogger(name).setLevel(logging.WARNING)
        self._client = MlflowClient(tracking_uri=self.uri)
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            folder = path_url(self.results / ARTIFACTS) if local else None
            try:
                self._client.create_experiment(EXPERIMENT, artifact_location=folder)
            except Exception:  # another process may have created it in between
                if self._client.get_experiment_by_name(EXPERIMENT) is None:
                    raise
            found = self._client.get_experiment_by_name(EXPERIMENT)
        self.experiment = found.experiment_id
        for name, value in {**DESCRIPTION, **VIEW}.items():
            if found.tags.get(name) != value:
                with suppress(Exception):  # another process sets the same tag
                    self._client.set_experiment_tag(self.experiment, name, value)

    def _search(self, condition: str) -> list[Any]:
        """The runs of this folder that fulfil a condition in MLflow's language."""
        return list(
            self._client.search_runs([self.experiment], f"tags.folder = '{folder_id(self.results)}' and {condition}")
        )

    def _end_dead(self) -> None:
        """End the parent runs of processes that were killed."""
        for run in self._search("tags.kind = 'run' and attributes.status = 'RUNNING'"):
            if owner.lives(run.data.tags.get("owner", "")) is False:
                self._client.set_terminated(run.info.run_id, status="KILLED")

    def _params(self, run: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        flat = {_key(name): str(value)[:MAX_PARAM] for name, value in flatten(params).items()}
        entities = [Param(name, value) for name, value in flat.items()]
        for start in range(0, len(entities), MAX_PARAMS_PER_BATCH):
            self._client.log_batch(run, params=entities[start : start + MAX_PARAMS_PER_BATCH])

    def _collect(self, run: str, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        found = [Metric(_key(name), value, now, int(step)) for name, value in values.items()]
        self._waiting.setdefault(run, []).extend(found)

    def _flush(self) -> None:
        self._sent = time.monotonic()
        waiting, self._waiting = self._waiting, {}
        for run, metrics in waiting.items():
            for start in range(0, len(metrics), MAX_METRICS_PER_BATCH):
                self._client.log_batch(run, metrics=metrics[start : start + MAX_METRICS_PER_BATCH])


def experiment_id(database: Path) -> str | None:
    """The id of our experiment in a tracking database, read without MLflow; None where there is none."""
    row = _experiment(database)
    return None if row is None else str(row[0])


def _experiment(database: Path) -> tuple[int, str] | None:
    """Number and artifact location of our experiment."""
    try:
        with closing(sqlite3.connect(f"{path_url(database)}?mode=ro", uri=True, timeout=10)) as connection:
            asked = "SELECT experiment_id, artifact_location FROM experiments WHERE name = ?"
            row: tuple[int, str] | None = connection.execute(asked, (EXPERIMENT,)).fetchone()
    except sqlite3.Error:
        return None
    return row


def relocate(database: Path, artifacts: Path) -> None:
    """Make a tracking database point to artifacts beside it: MLflow stores absolute paths, and folders are moved.

    Raises:
        sqlite3.Error: it cannot be written.
    """
    row, here = _experiment(database), path_url(artifacts)
    if row is None or database.parent != artifacts.parent:
        return
    number, there = row
    with closing(sqlite3.connect(database, timeout=10)) as connection, connection:
        # MLflow's own experiment, number 0, would write into the working folder of the first run.
        moved = [(here, number, here), (f"{here}/0", 0, f"{here}/0")]
        connection.executemany(
            "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ? AND artifact_location != ?", moved
        )
        if there == here:
            return
        connection.execute(
            "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) "
            "WHERE experiment_id = ? AND substr(artifact_uri, 1, ?) = ?",
            (here, len(there) + 1, number, len(there) + 1, f"{there}/"),
        )


def _key(name: str) -> str:
    """A name that MLflow takes: its characters, not its limit, and no path tricks."""
    return re.sub(r"[^\w .:/-]", "_", name, flags=re.ASCII).strip("/.")[:MAX_KEY] or "_"


def _check_sqlite(path: Path) -> None:
    """Fails at once where MLflow would retry for minutes: a file that is no database or cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=10)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("PRAGMA schema_version").fetchone()
        connection.rollback()
    finally:
        connection.close()
