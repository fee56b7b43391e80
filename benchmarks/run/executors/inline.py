"""Cells one after another in this process: for tests, for ``bench reproduce``, and for a debugger."""

import time
import warnings
from collections.abc import Sequence

from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run.executors import Emit, Event, Job
from backbench.benchmarks.run.executors.queue import Queue
from backbench.claims import beating


class InlineExecutor:
    """An executor without processes. The caller sets the number of threads."""

    def __init__(self) -> None:
        self._stopping = False

    def run(self, cells: Sequence[Cell], job: Job, emit: Emit) -> None:
        """See ``Executor``. Records name the kernels that ran, so slow ones are no warning."""
        from backbench.backbones.kernels import SlowKernels
        from backbench.benchmarks.run.executors.attempt import attempt

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SlowKernels)
            queue = Queue(cells, job, emit)
            while queue and not self._stopping:
                if (given := queue.next(idle=True)) is None:
                    time.sleep(0.2)
                    continue
                cell, claim = given
                emit(Event(cell, "started"))

                def tell(event: Event) -> None:
                    emit(event)
                    if event.kind == "held":
                        queue.put_back(event.cell)

                with beating(claim):
                    attempt(cell, job, claim, tell, lambda: self._stopping)

    def stop(self) -> None:
        """See ``Executor``."""
        self._stopping = True
