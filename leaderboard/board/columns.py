"""The columns of a board. A new entry in ``COSTS`` or ``METRICS`` appears in every view without any other change."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TypeVar

from backbench.leaderboard.board.tuning import NEAR, Tuning
from backbench.leaderboard.board.twins import Twin
from backbench.leaderboard.record.schema import Cost
from backbench.leaderboard.scores.statistics import Estimate, Statistic, iqm, mean, median, optimality_gap


@dataclass(frozen=True, kw_only=True)
class Column:
    """A number of every row. CSV and JSON always have it, under its key."""

    key: str
    title: str  # Heading on the page.
    unit: str = ""
    text: str = ""  # Name with unit in the terminal and in Markdown, if it is not the title with the unit.
    larger_is_better: bool = False
    shown_in: frozenset[str] = frozenset({"text", "page"})  # ``text``: terminal and Markdown; ``page``: HTML.
    plotted: bool = True  # Whether the page has a plot of it.

    @property
    def name(self) -> str:
        """Name inside a sentence."""
        return self.label.partition(",")[0]

    @property
    def label(self) -> str:
        """Name with unit, as text."""
        title = self.title if self.title[:2].isupper() else self.title.lower()
        return self.text or (f"{title}, {self.unit}" if self.unit else title)

    @property
    def axis(self) -> str:
        """Title with unit."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


@dataclass(frozen=True, kw_only=True)
class CostColumn(Column):
    """A cost: the median over a row's cells."""

    read: Callable[[Cost], float | None]  # The cost of one record; None where it is not known.
    counted: bool = False  # Counted, not measured: exact, where a measured cost has four digits and noise.
    integer: bool = False  # Whether CSV and JSON have it as an integer.
    required: bool = True  # False: older records lack it, and views do not say so.


@dataclass(frozen=True, kw_only=True)
class Metric(Column):
    """An aggregate over the tasks of a suite, in normalised scores unless ``unit`` says otherwise."""

    unit: str = "score"
    larger_is_better: bool = True
    statistic: Statistic  # (..., runs, tasks) -> (...)
    digits: int = 1
    of_data: bool = False  # Whether views show it for the data set itself too.


@dataclass(frozen=True, kw_only=True)
class TuningColumn(Column):
    """What the trials of a tuned row say. Only tables of tuned rows have it."""

    read: Callable[[Tuning], float]


@dataclass(frozen=True, kw_only=True)
class TwinColumn(Column):
    """What a row's twin says. Only tables with a twin have it."""

    unit: str = "score"
    read: Callable[[Twin], Estimate | None]


COSTS: tuple[CostColumn, ...] = (
    CostColumn(key="parameters", title="Parameters", read=attrgetter("parameters_total"), counted=True, integer=True),
    CostColumn(
        key="parameters_backbone", title="Backbone parameters", read=attrgetter("parameters_backbone"), counted=True,
        integer=True, shown_in=frozenset({"page"}), plotted=False,
    ),
    CostColumn(key="flops_per_token", title="FLOPs per token", read=attrgetter("flops_per_token"), counted=True),
    CostColumn(
        key="state_bytes", title="State", unit="bytes", read=attrgetter("state_bytes"), counted=True,
        integer=True, required=False,
    ),
    CostColumn(
        key="train_tokens_per_s", title="Training speed", unit="tokens/s", text="train tokens/s",
        read=attrgetter("train_tokens_per_s"), larger_is_better=True,
    ),
    CostColumn(key="decision_p50_ms", title="Decision p50", unit="ms", read=attrgetter("decision.p50_ms")),
    CostColumn(
        key="decision_p95_ms", title="Decision p95", unit="ms", read=attrgetter("decision.p95_ms"), plotted=False,
    ),
    CostColumn(key="peak_memory_mb", title="Peak memory", unit="MB", read=attrgetter("peak_memory_mb"), plotted=False),
    CostColumn(key="wall_seconds", title="Wall time", unit="s", read=attrgetter("wall_seconds"), plotted=False),
)  # fmt: skip
METRICS: tuple[Metric, ...] = (
    Metric(key="mean", title="Mean", statistic=mean, of_data=True),
    Metric(key="median", title="Median", statistic=median, plotted=False),
    Metric(key="iqm", title="IQM", statistic=iqm, of_data=True),
    Metric(
        key="optimality_gap", title="Optimality gap", unit="lower is better", statistic=optimality_gap, digits=2,
        larger_is_better=False, plotted=False,
    ),
)  # fmt: skip

TWIN: tuple[TwinColumn, ...] = (
    TwinColumn(key="observability_gap", title="Observability gap", text="observability gap", read=attrgetter("gap")),
    TwinColumn(
        key="memory_bias", title="Memory bias", text="memory bias", read=attrgetter("bias"), larger_is_better=True
    ),
)  # fmt: skip
TUNING: tuple[TuningColumn, ...] = (
    TuningColumn(
        key="near", title=f"Settings within {NEAR:g} points of the best", unit="%", larger_is_better=True,
        read=lambda tuning: 100 * tuning.near,
    ),
    TuningColumn(
        key="tuning_minutes", title="Tuning", unit="CPU minutes", read=lambda tuning: tuning.cpu_seconds / 60
    ),
)  # fmt: skip

AnyColumn = TypeVar("AnyColumn", bound=Column)


def shown(columns: Sequence[AnyColumn], view: str) -> list[AnyColumn]:
    """Those of ``columns`` that ``text`` or ``page`` shows. The page has IQM first: it orders the rows."""
    found = [column for column in columns if view in column.shown_in]
    return sorted(found, key=lambda column: column.key != "iqm") if view == "page" else found
