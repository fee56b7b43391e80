"""Cells one after another in this process: for tests, for ``bench reproduce``, and for a debugger."""

import warnings
from collections.abc import Sequence

from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run.executors import Emit, Event, Job, attempt


class InlineExecutor:
    """An executor without processes. The caller sets the number of threads."""

    def __init__(self) -> None:
        self._stopping = False

    def run(self, cells: Sequence[Cell], job: Job, emit: Emit) -> None:
        """See ``Executor``. Records name the kernels that ran, so slow ones are no warning."""
        from backbench.backbones.kernels import SlowKernels

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SlowKernels)
            for cell in cells:
                if self._stopping:
                    return
                emit(Event(cell, "started"))
                attempt(cell, job, emit, lambda: self._stopping)

    def stop(self) -> None:
        """See ``Executor``."""
        self._stopping = True
