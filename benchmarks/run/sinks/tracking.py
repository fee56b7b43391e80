"""MLflow as a sink: what happens in a run, as it happens, for people who look at runs there.

Records are the result. Nothing is ever read back from MLflow, and no failure inside it costs a cell: the first one is
reported once, and the sink is quiet from then on. Only the parent process of a run writes, with a client of its own and
no global state. MLflow is imported when tracking starts, since that takes seconds.
"""

import logging
import math
import os
import re
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from backbench import owner
from backbench.benchmarks.run.executors import Event
from backbench.benchmarks.run.sinks.tracking_view import DESCRIPTION, VIEW, board_metrics, final, tags
from backbench.claims import alone
from backbench.errors import one_line
from backbench.files import create_whole
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.views.export import pages_of
from backbench.text import SQLITE, path_url, url_path

EXPERIMENT = "backbench"
DATABASE, ARTIFACTS, ID = "mlflow.db", "mlartifacts", ".tracking-id"
# MLflow's own limits; it raises past them.
MAX_KEY, MAX_PARAM, MAX_TAG = 250, 6000, 5000
MAX_PARAMS_PER_BATCH, MAX_METRICS_PER_BATCH = 100, 1000
REMOTE = ("http://", "https://", "databricks")


class Tracker:
    """One parent run per ``bench run``, one child per cell. Every method returns quietly whatever MLflow does.

    ``results`` is the folder of the run. By default the database is ``mlflow.db`` and artifacts are in ``mlartifacts``
    there. ``uri`` is any MLflow tracking URI instead; ``"none"`` turns tracking off. ``warn`` gets one line when
    tracking fails. Metrics are sent when ``flush_every`` of them wait or the last were sent ``flush_seconds`` ago.
    """

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
        self.active = self.uri.lower() != "none"
        self.experiment = ""
        self._warn = warn
        self._flush_every = min(flush_every, MAX_METRICS_PER_BATCH)
        self._flush_seconds = flush_seconds
        self._client: Any = None
        self._parent: str | None = None
        self._runs: dict[str, str] = {}  # key -> id of the child that is open
        self._waiting: dict[str, list[Any]] = {}  # run id -> metrics not sent yet
        self._odd: set[tuple[str, str]] = set()  # (key, metric) that was not finite before
        self._sent = time.monotonic()
        self._failed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close(failed=kind is not None)

    def start(self, params: Mapping[str, Any]) -> None:
        """Open the parent run; ``params`` (nested or not) become its parameters, ``name`` in it its name."""
        with self._guard("starting") as go:
            if go and self._parent is None:
                self._connect()
                self._end_dead()
                name = str(params.get("name", "bench"))
                labels = {"kind": "run", "folder": self._folder(), "owner": owner.me()}
                run = self._client.create_run(self.experiment, run_name=name, tags=labels)
                self._parent = run.info.run_id
                self._params(run.info.run_id, params)

    def event(self, event: Event) -> None:
        """A child opens with its cell's first event, gets the numbers of others, and closes with the record."""
        key = event.cell.key
        if event.kind == "started":
            self.cell_started(key, event.cell.resolved())
        elif event.kind in ("held", "taken"):  # another process logs it, in the same run
            self._waiting.pop(self._runs.pop(key, ""), None)
        elif event.record is not None:
            self.cell_finished(key, event.record)
        elif event.kind in ("error", "stopped"):
            self.cell_failed(key, event.message or event.kind)
        elif event.values:
            self.metrics(key, event.step, event.values)

    def cell_started(self, key: str, params: Mapping[str, Any]) -> None:
        """Open the run of a cell, or open again the one that was not finished.

        ``params`` are flattened to ``a.b.c`` and cut to MLflow's limits.
        """
        with self._guard(f"opening {key}") as go:
            if not go or self._parent is None or key in self._runs:
                return
            labels = {"mlflow.parentRunId": self._parent, "status": "running"}
            unfinished = self._search(f"tags.cell = '{_key(key)}' and attributes.status != 'FINISHED'")
            if unfinished:
                self._runs[key] = unfinished[0].info.run_id
                self._client.update_run(self._runs[key], status="RUNNING")
                for name, value in labels.items():
                    self._client.set_tag(self._runs[key], name, value)
            else:
                labels |= {"kind": "cell", "cell": _key(key), "folder": self._folder()}
                run = self._client.create_run(self.experiment, run_name=_key(key), tags=labels)
                self._runs[key] = run.info.run_id
                self._params(run.info.run_id, params)

    def metrics(self, key: str, step: int, values: Mapping[str, float]) -> None:
        """Add metrics of a cell that has started. What is not finite becomes a tag: MLflow would draw 1.8e308."""
        with self._guard(f"metrics of {key}") as go:
            if not go or key not in self._runs:
                return
            self._collect(key, step, values)
            waiting = sum(map(len, self._waiting.values()))
            if waiting >= self._flush_every or time.monotonic() - self._sent > self._flush_seconds:
                self._flush()

    def cell_finished(self, key: str, record: Record) -> None:
        """Close a cell with its record: last metrics, tags, ``record.json`` and ``config.json``."""
        self.cell_started(key, record.provenance.config)
        with self._guard(f"closing {key}") as go:
            if not go or key not in self._runs:
                return
            run = self._runs[key]
            if record.scores is not None:
                self._collect(key, record.scores.last.step, final(record))
            self._flush()
            for name, value in tags(record).items():
                self._client.set_tag(run, name, value[:MAX_TAG])
            self._client.log_text(run, record.model_dump_json(indent=1), "record.json")
            self._client.log_dict(run, dict(record.provenance.config), "config.json")
            self._close(key, done=record.status == "done")

    def cell_failed(self, key: str, reason: str) -> None:
        """Close a cell that left no scores."""
        self.cell_started(key, {})
        with self._guard(f"closing {key}") as go:
            if go and key in self._runs:
                self._flush()
                self._client.set_tag(self._runs[key], "status", "failed")
                self._client.set_tag(self._runs[key], "reason", reason[:MAX_TAG])
                self._close(key, done=False)

    def board(self, records: list[Record]) -> None:
        """Give the parent run the board of ``records``: aggregates as metrics, the pages as artifacts."""
        with self._guard("logging the board") as go:
            if go and self._parent is not None and records:
                for name, value in board_metrics(records).items():
                    self._client.log_metric(self._parent, _key(name), value)
                for path, text in pages_of(records, folder=None, repository=None).items():
                    self._client.log_text(self._parent, text, f"board/{path}")

    def close(self, *, failed: bool = False) -> None:
        """Send what waits and end all runs; cells still open end as killed. Again is harmless."""
        with self._guard("closing") as go:
            if go and self._parent is not None:
                self._flush()
                for run in self._runs.values():
                    self._client.set_terminated(run, status="KILLED")
                self._client.set_terminated(self._parent, status="FAILED" if failed or self._failed else "FINISHED")
                self._runs, self._parent = {}, None

    @contextmanager
    def _guard(self, doing: str) -> Iterator[bool]:
        """Runs a block that may fail inside MLflow; yields whether there is anything to do."""
        try:
            yield self.active
        except Exception as error:
            self.active = False
            self._waiting.clear()
            self._warn(
                f"MLflow tracking stopped ({doing}): {type(error).__name__}: {one_line(error, 160)}; the run "
                f"continues and its records are complete without it (tracking is at {self.uri})"
            )

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
            self._open(local)
            return
        database = url_path(self.uri)
        _check_sqlite(database)
        with alone(self.results / ".claim-mlflow"):  # two processes that migrate one new database both fail
            self._open(local)
            relocate(database, self.results / ARTIFACTS)

    def _open(self, local: bool) -> None:
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

    def _folder(self) -> str:
        """A name of the folder of results that moves with it: on a server, other folders have runs of equal cells."""
        path = self.results / ID
        create_whole(path, uuid.uuid4().hex)
        return path.read_text(encoding="ascii")

    def _search(self, condition: str) -> list[Any]:
        """The runs of this folder that fulfil a condition in MLflow's language."""
        return list(self._client.search_runs([self.experiment], f"tags.folder = '{self._folder()}' and {condition}"))

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

    def _collect(self, key: str, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        for name, value in values.items():
            number = float(value)
            if math.isfinite(number):
                self._waiting.setdefault(self._runs[key], []).append(Metric(_key(name), number, now, int(step)))
            elif (key, name) not in self._odd:
                self._odd.add((key, name))
                self._client.set_tag(self._runs[key], _key(f"nonfinite.{name}"), f"{number} first at step {step}")

    def _flush(self) -> None:
        self._sent = time.monotonic()
        waiting, self._waiting = self._waiting, {}
        for run, metrics in waiting.items():
            for start in range(0, len(metrics), MAX_METRICS_PER_BATCH):
                self._client.log_batch(run, metrics=metrics[start : start + MAX_METRICS_PER_BATCH])

    def _close(self, key: str, *, done: bool) -> None:
        self._client.set_terminated(self._runs.pop(key), status="FINISHED" if done else "FAILED")
        self._failed += not done


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


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level, ``{"train": {"lr": 1}} -> {"train.lr": 1}``; an empty one stays as ``{}``."""
    flat: dict[str, Any] = {}
    for name, value in mapping.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


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
