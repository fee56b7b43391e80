"""The card of an exported agent, in the format of Hugging Face's model cards."""

from statistics import stdev
from typing import Any

import yaml

from backbench import __version__
from backbench.benchmarks.data.sources import SOURCES
from backbench.benchmarks.plan.settings import Cell
from backbench.leaderboard.record.schema import Record, TargetScore
from backbench.leaderboard.scores.statistics import interval
from backbench.text import markdown, plain

LICENCES = {"MIT": "mit", "CC BY 4.0": "cc-by-4.0"}  # of data -> as cards name it
LOAD = """## Load

```python
import backbench

agent = backbench.from_pretrained("this/folder")
agent.reset(target={target:g})
action = agent.act(observation)            # then agent.act(observation, reward)
```
"""


def card(record: Record, cell: Cell, files: dict[str, str]) -> str:
    """Markdown with a front matter in YAML. ``files``: name -> what it is, of the folder's files."""
    front = yaml.safe_dump(_front(record, cell), sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{front}---\n\n{_body(record, cell, files)}"


def _licence(cell: Cell) -> str:
    return SOURCES.get(cell.data.source).licence


def _front(record: Record, cell: Cell) -> dict[str, Any]:
    identity, score = record.identity, record.headline
    assert score is not None
    spread = f" +/- {stdev(score.returns):.2f}" if len(score.returns) > 1 else ""
    measured: list[dict[str, Any]] = [
        {"type": "mean_reward", "name": "mean return of an episode", "value": f"{score.raw_mean:.2f}{spread}"},
        {"type": "normalised_score", "name": f"normalised score ({record.protocol.normaliser})",
         "value": round(score.normalised_mean, 2)},
    ]  # fmt: skip
    licence = _licence(cell)
    known = {"license": LICENCES[licence]} if licence in LICENCES else {"license": "other", "license_name": licence}
    return {
        "library_name": "backbench",
        **known,
        "pipeline_tag": "reinforcement-learning",
        "tags": [
            "reinforcement-learning", "offline-reinforcement-learning", "decision-transformer", "backbench",
            identity.backbone, identity.environment,
        ],
        "model-index": [
            {
                "name": record.key,
                "results": [
                    {
                        "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
                        "dataset": {"name": identity.task, "type": identity.environment},
                        "metrics": [one | {"verified": False} for one in measured],
                    }
                ],
            }
        ],
    }  # fmt: skip


def _body(record: Record, cell: Cell, files: dict[str, str]) -> str:
    identity, protocol, provenance = record.identity, record.protocol, record.provenance
    assert record.scores is not None
    assert identity.data is not None
    scores = "\n".join(_row(score) for score in record.scores.last.targets)
    listed = "\n".join(f"| `{name}` | {what} |" for name, what in files.items())
    window = f"each decision recomputes the last {cell.model.context} steps"
    acting = window if cell.eval.acting == "window" else "a state is carried from step to step"
    code = f"commit `{provenance.git_commit}`" if provenance.git_commit else "an installed package"
    return f"""# {_text(identity.backbone)} on {_text(identity.task)}

A return-conditioned policy with the sequence backbone {_text(identity.backbone)}, trained offline on recorded
episodes of {_text(identity.environment)} with Backbench.

## Scores

| target return | mean return | 95 % interval | normalised score | episodes |
|---:|---:|---:|---:|---:|
{scores}

This is one seed ({identity.seed}), so an interval is over episodes of the evaluation alone. Seeds differ by more.
Scores are normalised by {_text(protocol.normaliser)}: 0 and 100 are its references.

{LOAD.format(target=protocol.targets[0])}
## Data

| | |
|---|---|
| data set | {_text(identity.data.id)} |
| sha256 | `{identity.data.sha256}` |
| episodes, steps | {identity.data.episodes:,}, {identity.data.steps:,} |
| mean return | {identity.data.return_mean:.2f}, normalised {identity.data.normalised_mean:.2f} |

## Protocol

| | |
|---|---|
| suite, preset, seed | {_text(identity.suite)}, {_text(identity.preset)}, {identity.seed} |
| changed from the preset | {_text(identity.variant) or "nothing"} |
| acting | `{cell.eval.acting}`: {acting} |
| actions | {_text(protocol.sampling)} |
| code | Backbench {_text(provenance.packages.get("backbench", __version__))}, {code} |
| record | `{record.key}` |

## Files

| file | content |
|---|---|
{listed}

## Licence

Backbench is MIT. The licence of the data is: {_text(_licence(cell))}.
"""


def _row(score: TargetScore) -> str:
    ends = interval([score.raw_mean], score.returns)
    between = f"{ends.low:.2f} to {ends.high:.2f}" if ends else "-"
    cells = f"{score.target:g}", f"{score.raw_mean:.2f}", between, f"{score.normalised_mean:.2f}", len(score.returns)
    return f"| {' | '.join(map(str, cells))} |"


def _text(value: str) -> str:
    return markdown(plain(value))
