"""Whether a record is credible: consistent with itself, possible, and repeated on a second machine.
These checks find mistakes and edits that the schema allows. The checksums beside the records (``submit``), the
repository's history (``history``) and ``bench reproduce`` find consistent edits."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import getitem
from typing import Any

from backbench.leaderboard.record.fields import without_paths
from backbench.leaderboard.record.identity import added, cell_key, config_digest, newer, without_added
from backbench.leaderboard.record.returns import PER_STEP
from backbench.leaderboard.record.schema import Record
from backbench.leaderboard.record.suites import NORMALISERS, REFERENCES, SUITES
from backbench.leaderboard.trust.plausible import impossible, impossible_returns

SCORE_SLACK = 0.05  # of a normalised score: what a table shows
# Times of a run: equal to the last digit only in a copy.
TIMES = {"train_tokens_per_s", "train_seconds", "eval_seconds", "cpu_seconds", "wall_seconds", "decision"}
_NEEDED = ("backbench", "torch", "numpy", "gymnasium")
_ADDRESS = re.compile(r"[\w.+-]+@[A-Za-z][\w-]*")
_BACKBONE = re.compile(r"[\w.-]+(:[\w.]+)?(\+[\w.-]+(:[\w.]+)?)*")


def doubts(record: Record, now: datetime | None = None) -> list[str]:
    """What is wrong with ``record``, a phrase each, such as ``identity.seed: 1, and 0 in provenance.config``.
    ``now``: a record cannot have been started later; default: the clock's time."""
    found = [*_names(record), *_unpublishable(record)]
    try:
        found += [*contradictions(record), *impossible(record)]
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        what = f"has no {error}" if isinstance(error, KeyError) else f"is not as a cell's ({error})"
        found.append(f"provenance.config: {what}")
    found += impossible_returns(record)
    if datetime.fromisoformat(record.provenance.started) > (now or datetime.now(UTC)) + timedelta(days=1):
        found.append(f"provenance.started: {record.provenance.started} has not come yet")
    return found


def _names(record: Record) -> Iterator[str]:
    cell, packages = record.identity, record.provenance.packages
    if not _BACKBONE.fullmatch(cell.backbone):
        yield f"identity.backbone: {cell.backbone!r} is neither a registered name nor package.module:Class"
    normaliser = NORMALISERS.get(cell.suite, record.protocol.normaliser)
    if record.protocol.normaliser != normaliser:
        yield f"protocol.normaliser: {record.protocol.normaliser!r}, and {cell.suite} has {normaliser!r}"
    reference = REFERENCES.get(cell.suite, {}).get(cell.task, record.protocol.reference)
    if record.protocol.reference != reference:
        yield f"protocol.reference: {record.protocol.reference}, and {cell.task} of {cell.suite} has {reference}"
    if cell.suite in SUITES and cell.suite_tasks:
        yield f"identity.suite_tasks: suite {cell.suite} is known, and a record cannot change its tasks"
    simulators = {
        "ale-py": cell.environment.startswith("ALE/"),
        "mujoco": cell.environment.partition("-")[0] in PER_STEP,
    }
    for name in (*_NEEDED, *(name for name, needed in simulators.items() if needed)):
        if not re.match(r"\d+(\.\d+)*", packages.get(name, "")):
            yield f"provenance.packages: {name} is {packages.get(name, 'missing')!r}, which is no version"


def _unpublishable(record: Record) -> Iterator[str]:
    """Paths, addresses, and characters that a terminal or a page obeys instead of showing them."""
    for where, text in texts(record.model_dump()):
        if ("/" in text or "\\" in text) and without_paths(text) != text:
            yield f"{where}: {text[:60]!r} holds an absolute path"
        elif "@" in text and (address := _ADDRESS.search(text)):
            yield f"{where}: {address[0]!r} looks like a user at a host"
        allowed = "\n\t" if where == "failure.message" else ""
        found = next((c for c in text if unicodedata.category(c) in ("Cc", "Cf") and c not in allowed), None)
        if found is not None:
            yield f"{where}: {text[:60]!r} holds the character U+{ord(found):04X}, which is not shown"


def texts(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """(dotted path, text) of every string in a JSON-like ``value``, keys of mappings included."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield where, str(key)
            yield from texts(inner, f"{where}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from texts(inner, f"{where}.{index}")


# Field of a record -> the same value in its settings.
_SAME = {
    "identity.backbone": "backbone", "identity.options": "options", "identity.preset": "preset",
    "identity.seed": "seed", "identity.variant": "variant", "identity.suite": "task.suite",
    "identity.task": "task.name", "identity.environment": "task.env_id", "identity.suite_tasks": "task.suite_tasks",
    "identity.source": "data.source", "identity.model.d_model": "model.d_model",
    "identity.model.n_layers": "model.n_layers", "identity.model.dropout": "model.dropout",
    "identity.model.context": "model.context", "protocol.context": "model.context",
    "protocol.episodes": "eval.episodes", "protocol.acting": "eval.acting", "protocol.eval_seed": "eval.seed",
    "protocol.normaliser": "task.normaliser", "protocol.returns_to_go": "task.rewards",
}  # fmt: skip


def _longer(record: Record, lengths: list[int]) -> Iterator[str]:
    """Scores on longer episodes against the settings and the headline."""
    if record.scores is None or record.headline is None:
        return
    found = [(one.times, one.acting) for one in record.scores.longer]
    if found != [(times, acting) for times in lengths for acting in ("window", "recurrent")]:
        yield f"scores.longer: {found}, and eval.lengths is {lengths} in provenance.config"
    for where, one in record.longer_scores():
        if one.max_steps != one.times * record.protocol.max_steps:
            yield f"{where}.max_steps: {one.max_steps}, and {one.times} times protocol.max_steps is another number"
        if (one.times, one.acting) == (1, record.protocol.acting) and one.score != record.headline:
            yield f"{where}.score: is not the headline, which has that length and that acting"


def _held_out(record: Record, episodes: int) -> Iterator[str]:
    """The held-out loss against the settings and the data."""
    if record.scores is None or record.identity.data is None:
        return
    found, data = record.scores.held_out, record.identity.data
    if (count := 0 if found is None else found.episodes) != episodes:
        yield f"scores.held_out: of {count} episodes, and data.held_out is {episodes} in provenance.config"
    elif found is not None and not count <= found.steps < data.steps:
        yield f"scores.held_out.steps: {found.steps} in {count} episodes, and the data have {data.steps} steps"


def contradictions(record: Record) -> Iterator[str]:
    """The record's parts against the settings that it was made with.
    Raises ``KeyError`` and others for settings that are not as a cell's."""
    content, config = record.model_dump(mode="json"), dict[str, Any](record.provenance.config)
    cell, protocol = record.identity, record.protocol
    task, eval_, train, game = (config[name] for name in ("task", "eval", "train", "atari"))
    said = {path: (_at(content, path), _at(config, same)) for path, same in _SAME.items()}
    for name, value in cell.model.extra.items():
        said[f"identity.model.extra.{name}"] = value, config["model"][name]
    limit = game["max_frames"] // game["frame_skip"] if game is not None else task["max_steps"]
    longest = eval_["max_steps"] or limit
    said |= {
        "protocol.timestep": (protocol.timestep, eval_.get("timestep", added("eval")["timestep"])),
        "protocol.reference": (list(protocol.reference or ()), task["reference"]),
        "protocol.environment": (protocol.environment, _conventions(config)),
        "protocol.max_steps": (protocol.max_steps, longest if game is None else min(limit, longest)),
        "protocol.return_scale": (protocol.return_scale or task["return_scale"], task["return_scale"]),
        "provenance.dtype": (record.provenance.dtype, "bfloat16" if train["bf16"] else "float32"),
    }
    if declared := eval_["targets"] or task["targets"]:  # else they follow from the data
        said["protocol.targets"] = list(protocol.targets), declared
    if cell.data is not None:
        said["identity.data.id"] = cell.data.id, task["data_id"]
    if record.scores is not None:
        said["scores.last.step"] = record.scores.last.step, train["steps"]
    for name, value in newer("model", config["model"]).items():
        said[f"identity.model.extra.{name}"] = cell.model.extra.get(name), value
    for where, (ours, theirs) in said.items():
        if ours != theirs:
            yield f"{where}: {ours!r}, and {theirs!r} in provenance.config"
    if record.scores is not None and record.scores.best is not None and eval_.get("curve_episodes"):
        yield "scores.best: is there, and no evaluation during training was scored (eval.curve_episodes)"
    yield from _longer(record, eval_.get("lengths", added("eval")["lengths"]))
    yield from _held_out(record, config["data"].get("held_out", added("data")["held_out"]))
    if record.curve.loss and record.curve.loss[-1][0] > train["steps"]:
        yield f"curve.loss: goes to step {record.curve.loss[-1][0]} of {train['steps']}"
    if len(record.curve.evaluations) > train["evaluations"]:
        yield f"curve.evaluations: {len(record.curve.evaluations)} instead of at most {train['evaluations']}"
    key = cell_key(cell.backbone, cell.task, cell.source, cell.preset, cell.seed, config_digest(config))
    if key != record.key:
        yield f"key: {record.key!r}, and provenance.config makes {key!r}"


def _conventions(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the settings make ``protocol.environment``."""
    known = without_added(config)
    if known["atari"] is not None:
        return dict(known["atari"])
    task = known["task"]
    return {**task["env_kwargs"], **({"observe": task["observe"]} if "observe" in task else {})}


def _at(content: Any, path: str) -> Any:
    return reduce(getitem, path.split("."), content)


def other_machine(record: Record, other: Record) -> bool:
    """Whether two records name different processors, accelerators or platforms."""
    return record.provenance.machine != other.provenance.machine


def why_not_reproduced(record: Record, other: Record) -> str:
    """Why ``other`` does not reproduce ``record``; empty when it does. Fields that only one has do not count."""
    one_config, other_config = (without_added(each.provenance.config) for each in (record, other))
    if record.key != other.key or one_config != other_config:
        return "it is another cell"
    if record.headline is None or other.headline is None:
        return "one of the two has failed"
    for name in ("identity", "protocol"):
        one, two = getattr(record, name), getattr(other, name)
        if any(getattr(one, part) != getattr(two, part) for part in one.model_fields_set & two.model_fields_set):
            return f"its {name} differs"
    if record.provenance.started == other.provenance.started:
        return "it began in the same second: it is a copy"
    # Two runs take different times even on one machine: the last digits are the clock's noise.
    costs = [one.cost.model_dump(include=TIMES) for one in (record, other) if one.cost is not None]
    if len(costs) == 2 and costs[0] == costs[1]:
        return "its times are the same to the last digit: it is a copy"
    if not other_machine(record, other):
        return "it comes from the same kind of machine, by processor, accelerator and platform"
    difference = other.headline.normalised_mean - record.headline.normalised_mean
    return "" if abs(difference) < SCORE_SLACK else f"its score differs by {difference:+.2f} points"


def reproduced_cells(records: Iterable[Record], verifications: Iterable[Record]) -> frozenset[str]:
    """Keys of the ``records`` that at least one of ``verifications`` reproduces, see ``why_not_reproduced``."""
    known = {record.key: record for record in records}
    there = [other for other in verifications if other.key in known]
    return frozenset(other.key for other in there if not why_not_reproduced(known[other.key], other))
