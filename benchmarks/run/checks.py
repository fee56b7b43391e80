"""Before a cell is trained: do its data, its environment and its settings agree?"""

from __future__ import annotations

from functools import partial

from backbench.benchmarks.data import store
from backbench.benchmarks.data.sources import SOURCES
from backbench.benchmarks.data.trajectories import Trajectories
from backbench.benchmarks.environments.kind import Sizes
from backbench.benchmarks.plan.settings import Cell, EvalConfig
from backbench.errors import require


def check_data(cell: Cell, data: Trajectories) -> None:
    """Raise ``UserError`` unless the data have the states and actions of the cell's environment."""
    action_dim = data.actions.shape[1] if data.n_actions is None else 0
    recorded = partial(store.recorded_spaces, data.name) if SOURCES.get(cell.data.source).any_id else None
    cell.kind.check_data(cell.environment, data.name, Sizes(data.state_shape, data.n_actions, action_dim), recorded)
    require(
        data.n_actions is not None or cell.eval.temperature == EvalConfig().temperature,
        "override eval.temperature: only discrete actions are sampled; remove it",
    )
