"""On what the costs of a table were measured, and which differences between records do not forbid a comparison."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from backbench.leaderboard.record.schema import Record


def measured(records: Iterable[Record]) -> str:
    """How the costs of ``records`` were measured."""
    done = [record for record in records if record.status == "done"]
    machines, batches = ", ".join(_machines(done)) or "no machine yet", ", ".join(map(str, _batches(done)))
    return (
        f"Costs: medians over a row's cells, measured on {machines}; FLOPs are of a forward pass; a decision is timed "
        f"for {batches or 'no'} environment{'' if batches == '1' else 's'} at once; memory is the process's peak. What "
        "else ran at the time is not recorded."
    )


def unlike(records: Sequence[Record]) -> list[str]:
    """Notes on differences between ``records`` that do not forbid a comparison of scores."""
    notes, done = [], [record for record in records if record.status == "done"]
    origins = [record.provenance for record in done]
    if len(machines := _machines(done)) > 1:
        notes.append(f"costs were measured on different machines and do not compare: {'; '.join(machines)}")
    if len(batches := _batches(records)) > 1:
        notes.append(f"decisions were timed with different batches: {', '.join(map(str, batches))}")
    commits = sorted({origin.git_commit or "none" for origin in origins})
    if len(commits) > 1:
        notes.append(f"records of {len(commits)} commits: {', '.join(commit[:10] for commit in commits)}")
    for name in ("torch", "numpy"):
        versions = sorted({origin.packages.get(name, "unknown") for origin in origins})
        if len(versions) > 1:
            notes.append(f"records of {len(versions)} versions of {name}: {', '.join(versions)}")
    if dirty := sum(bool(origin.git_dirty) for origin in origins):
        notes.append(f"{dirty} of {len(origins)} records come from code that differed from its commit")
    return notes


def _machines(done: Iterable[Record]) -> list[str]:
    found = set()
    for one in (record.provenance for record in done):
        threads = f"{one.threads} thread{'' if one.threads == 1 else 's'}"
        found.add(f"{one.hardware.gpu or one.hardware.cpu} ({one.device}, {threads}, {one.dtype})")
    return sorted(found)


def _batches(records: Iterable[Record]) -> list[int]:
    """Environments per timed decision."""
    return sorted({record.cost.decision.batch for record in records if record.cost is not None})
