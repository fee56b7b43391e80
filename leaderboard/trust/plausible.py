"""Which returns, data and costs of one record are possible. ``together`` compares records with each other."""

from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any

from backbench.leaderboard.record.returns import GAMES, kind_of, return_bounds
from backbench.leaderboard.record.schema import Cost, DataSummary, ModelShape, Record


def impossible(record: Record) -> Iterator[str]:
    """Costs of ``record`` that are impossible, a phrase each. Raises ``KeyError`` and others for broken settings."""
    train: Any = record.provenance.config["train"]
    if record.cost is not None:
        yield from _costs(record.cost, record.identity.model, train)
    best = record.scores.best if record.scores is not None else None
    if best is not None and best.step > train["steps"]:
        yield f"scores.best.step: {best.step} of {train['steps']}"


def _costs(cost: Cost, model: ModelShape, train: Mapping[str, Any]) -> Iterator[str]:
    for name in ("train_seconds", "eval_seconds", "wall_seconds", "train_tokens_per_s", "decision.p50_ms"):
        if attrgetter(name)(cost) <= 0:
            yield f"cost.{name}: is 0, and nothing takes no time"
    if cost.parameters_total == 0:
        yield "cost.parameters_total: is 0, and something was trained"
    if cost.flops_per_token == 0 and cost.parameters_backbone > 0:
        yield "cost.flops_per_token: is 0, and the backbone has weights; unknown is null"
    # Every process that writes a record times a hundred decisions, and half of them take the median or longer.
    if cost.wall_seconds < 50 * cost.decision.p50_ms / 1000:
        yield f"cost.wall_seconds: {cost.wall_seconds:g}, and timing the decisions alone took longer"
    # Tokens per second times seconds must be the number of tokens, within a factor of two. The seconds include the
    # first updates, the rate does not: a compiler may have taken two minutes there.
    tokens = float(train["steps"]) * float(train["batch_size"]) * model.context * model.tokens_per_step
    timed = cost.train_tokens_per_s * cost.train_seconds
    if not tokens / 2 <= timed or (timed - cost.train_tokens_per_s * 120) > 2 * tokens:
        yield f"cost.train_tokens_per_s: {timed:.3g} tokens in train_seconds, and {tokens:.3g} were trained on"


def short_wall(record: Record) -> str:
    """Says that a record's wall time is shorter than that of its parts; empty when it is not.
    It may be in a cell that was interrupted: training seconds add up, and the wall time is the last process's."""
    cost = record.cost
    if cost is None or cost.wall_seconds >= 0.99 * (parts := cost.train_seconds + cost.eval_seconds):
        return ""
    said = f"cost.wall_seconds: {cost.wall_seconds:.4g}, and training and evaluation took {parts:.4g}"
    return f"{said}: right only for a cell that was interrupted"


def impossible_returns(record: Record) -> Iterator[str]:
    """Returns that no episode can have, and data that no set of episodes can be; a phrase each."""
    environment = record.identity.environment
    played = [*record.target_scores(), *((f"{path}.score", one.score) for path, one in record.longer_scores())]
    for path, score in played:
        for number, (value, length) in enumerate(zip(score.returns, score.lengths, strict=True)):
            ends = return_bounds(environment, record.protocol.environment, length)
            low, high = ends
            where = f"{path}.returns.{number}"
            if (low is not None and value < low - 1e-6) or (high is not None and value > high + 1e-6):
                shown = " .. ".join("any" if end is None else f"{end:g}" for end in ends)
                yield f"{where}: {value:g} in {length} steps, and {environment} gives {shown}"
            elif environment.startswith("ALE/") and value != round(value):
                yield f"{where}: {value!r}, and a game's score is an integer"
    if record.identity.data is not None:
        yield from _data(record.identity.data, environment)


def _data(data: DataSummary, environment: str) -> Iterator[str]:
    if data.steps < data.episodes:
        yield f"identity.data.steps: {data.steps} in {data.episodes} episodes"
    if data.return_std > (data.return_max - data.return_min) / 2 * (1 + 1e-6) + 1e-6:
        yield "identity.data.return_std: is more than half of the distance between return_min and return_max"
    low, high = GAMES.get(kind_of(environment), (None, None)) if data.rewards == "raw" else (None, None)
    if low is not None and data.return_min < low:
        yield f"identity.data.return_min: {data.return_min:g}, and the game's smallest return is {low:g}"
    if high is not None and data.return_max > high:
        yield f"identity.data.return_max: {data.return_max:g}, and the game's largest return is {high:g}"
