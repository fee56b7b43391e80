"""How long a cell will take, from finished records of the same backbone and size."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from backbench.benchmarks.plan.settings import Cell
from backbench.leaderboard.record.files import load_records
from backbench.leaderboard.record.outcome import PASSES
from backbench.leaderboard.record.schema import Record

START = 5.0  # seconds of imports and set-up, about
RATE = 1e10  # FLOPs a second of one core, about, where there is no record


class Estimator:
    """Wall-clock time of cells on the machines that the records came from."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Read the records of ``folders`` (of results, or of records); those that are missing are skipped."""
        self._records: dict[tuple[object, ...], list[Record]] = defaultdict(list)
        self._used: set[str] = set()
        self._rates: list[float] = []  # FLOPs of training in a second
        for folder in folders:
            inside = folder / "records" if (folder / "records").is_dir() else folder
            for record in load_records(inside)[0] if inside.is_dir() else ():
                if record.cost is not None:
                    self._records[_shape(record)].append(record)
                    if record.cost.flops_per_token:
                        self._rates.append(PASSES * record.cost.flops_per_token * record.cost.train_tokens_per_s)

    @property
    def basis(self) -> str:
        """What the estimates rest on, as a sentence."""
        if not self._used:
            return "Run one cell to get an estimate."
        return f"Estimates come from finished records on {', '.join(sorted(self._used))}."

    def seconds(self, cell: Cell) -> float | None:
        """Seconds on one thread or GPU; None without a record of this backbone, width, depth and context.

        Training scales with updates x batch x context, evaluation with episodes x targets.
        """
        model = cell.model
        known = self._records.get((cell.backbone, cell.task.suite, model.d_model, model.n_layers, model.context))
        if not known:
            return None
        known = [record for record in known if record.identity.task == cell.task.name] or known
        costs = [record.cost for record in known if record.cost is not None]
        self._used |= {record.provenance.hardware.gpu or record.provenance.hardware.cpu for record in known}
        tokens = cell.train.steps * cell.train.batch_size * model.context * len(model.tokens)
        plays = cell.eval.episodes * max(1, len(cell.targets)) + cell.eval.episodes * (cell.train.evaluations - 1)
        an_episode = median(
            cost.eval_seconds / (record.protocol.episodes * max(1, len(record.protocol.targets)))
            for record, cost in zip(known, costs, strict=True)
        )
        return START + tokens / median(cost.train_tokens_per_s for cost in costs) + plays * an_episode

    def guess(self, cell: Cell) -> float:
        """Seconds of a cell that is like no record: from its parameters, two FLOPs each, and the records' speed."""
        import torch

        from backbench.benchmarks.plan.assemble import make_backbone

        with torch.device("meta"):
            parameters = sum(one.numel() for one in make_backbone(cell).parameters())
        tokens = cell.train.steps * cell.train.batch_size * cell.model.context * len(cell.model.tokens)
        rate = median(self._rates) if self._rates else RATE
        return START + 2 * PASSES * parameters * tokens / rate


def _shape(record: Record) -> tuple[object, ...]:
    model = record.identity.model
    return record.identity.backbone, record.identity.suite, model.d_model, model.n_layers, model.context
