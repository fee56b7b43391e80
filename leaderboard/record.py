"""Records: what one cell of the grid leaves behind. The schema and its files under one name; imports no torch."""

from __future__ import annotations

from backbench.leaderboard.schema import (
    SCHEMA_VERSION,
    CheckpointScores,
    Cost,
    Curve,
    DataSummary,
    Evaluation,
    Failure,
    Hardware,
    Identity,
    Latency,
    ModelShape,
    Protocol,
    Provenance,
    Record,
    Scores,
    TargetScore,
)
from backbench.leaderboard.store import RecordError, cell_digest, cell_key, dump_record, load_record, load_records

__all__ = [
    "SCHEMA_VERSION",
    "CheckpointScores",
    "Cost",
    "Curve",
    "DataSummary",
    "Evaluation",
    "Failure",
    "Hardware",
    "Identity",
    "Latency",
    "ModelShape",
    "Protocol",
    "Provenance",
    "Record",
    "RecordError",
    "Scores",
    "TargetScore",
    "cell_digest",
    "cell_key",
    "dump_record",
    "load_record",
    "load_records",
]
