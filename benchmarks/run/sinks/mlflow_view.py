"""What people see in MLflow: metric names, tags, the description, and a saved view of the cells."""

import json
from collections.abc import Sequence

from backbench.leaderboard.board.board import build_board
from backbench.leaderboard.record.schema import Record

# A saved view is an experiment's tag, which a link names. Its form is that of MLflow's own "share" button.
CELLS = "backbench-cells"
COLUMNS = (
    "metrics.`score`", "metrics.`return`", "tags.`task`", "tags.`seed`", "tags.`variant`", "tags.`status`",
)  # fmt: skip
VIEW = {
    f"mlflow.sharedViewState.{CELLS}": json.dumps(
        {
            "searchFilter": "tags.kind = 'cell'",
            "orderByKey": "metrics.`score`",
            "orderByAsc": False,
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "modelVersionFilter": "All Runs",
            "datasetsFilter": [],
            "selectedColumns": COLUMNS,
            "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "backbone"}]},
            "groupsExpanded": {},
            "viewMaximized": False,
            "runListHidden": False,
            "useGroupedValuesInCharts": True,
        }
    )
}
DESCRIPTION = {
    "mlflow.experimentKind": "custom_model_development",  # else MLflow shows its pages for language models
    "mlflow.note.content": (
        "Runs of `bench run`. A parent run is one command: its metrics are the board's aggregates, its artifacts hold "
        "the board with plots (`board/index.html`). Its children are cells (backbone x task x seed): `score` is the "
        "normalised score of the last checkpoint at the first target return, `return` the raw one, `best/…` those of "
        "the best intermediate checkpoint. Group the cells by the tag `backbone` to compare. The records in the "
        "results folder are the result; MLflow is a log."
    ),
}


def link(port: int, experiment: str) -> str:
    """Address of the saved view on a local MLflow page: cells grouped by backbone, with score columns."""
    return f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs?viewStateShareKey={CELLS}&workflowType=machine_learning"


def final(record: Record) -> dict[str, float]:
    """The numbers of a record that make a column in MLflow; names are equal for all tasks."""
    values: dict[str, float] = {}
    for prefix, checkpoint in (
        ("", record.scores and record.scores.last),
        ("best/", record.scores and record.scores.best),
    ):
        for number, score in enumerate(checkpoint.targets if checkpoint else (), start=1):
            target = "" if number == 1 else f" target {number}"
            values[f"{prefix}score{target}"] = score.normalised_mean
            values[f"{prefix}return{target}"] = score.raw_mean
    cost = record.cost.model_dump() if record.cost is not None else {}
    decision = cost.pop("decision", None) or {}
    cost |= {f"decision.{name}": value for name, value in decision.items()}
    return values | {f"cost/{name}": float(value) for name, value in cost.items() if value is not None}


def tags(record: Record) -> dict[str, str]:
    """What people filter and group by."""
    cell, origin = record.identity, record.provenance
    names = ("backbone", "suite", "task", "source", "preset", "seed", "variant")
    found = {name: str(getattr(cell, name)) for name in names}
    found |= {"status": record.status, "acting": record.protocol.acting, "device": origin.device}
    found |= {"git_commit": str(origin.git_commit), "git_dirty": str(origin.git_dirty)}
    if record.failure is not None:
        found["reason"] = f"{record.failure.type}: {record.failure.message}"
    return found


def board_metrics(records: Sequence[Record]) -> dict[str, float]:
    """``iqm/gloma``, ``mean/gloma`` and so on: the aggregates of a board's complete rows."""
    return {
        f"{name}/{row.label}": row.aggregates[name].value
        for section in build_board(records).sections
        for row in section.rows
        for name in ("iqm", "mean")
        if name in row.aggregates
    }
