"""Cells as tasks of Ray. Each is ``python -m backbench.run_cell``, started by a worker that Ray may use again.

A process of its own has the peak memory and the threads that it would have without Ray. If a node dies, Ray starts its
tasks on others, where cells wait for the claim of the lost process and resume. Ray ends the tasks of a driver that
dies, and with the workers their cells end after a checkpoint.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run.executors import Event, ray_cluster
from backbench.benchmarks.run.executors.followed import FollowedExecutor, Task, wait

FOLDER = "ray"
LOOK_AGAIN = 1.0  # seconds
RETRIES = 3  # times that a cell starts again after its node or its worker died: one that kills nodes must end
LATE = 10  # looks until a record must be seen through the shared file system
HELD, STOPPED = 75, 143  # exit statuses of run_cell
PASSED = ("BACKBENCH_", "MINARI_")  # environment variables that decide what a cell finds
_DEATH_SIGNAL, _C = 1, ctypes.CDLL(None)


def work(words: Sequence[str], log: str, folder: str, variables: Mapping[str, str]) -> int:
    """In a worker of Ray: run a cell in a process of its own; the exit status. Cancelling the task gives the cell
    SIGTERM, and so does the worker's death. Its session is its own: Ray kills the group of a worker that it ends."""

    def end_with_worker() -> None:
        _C.prctl(_DEATH_SIGNAL, signal.SIGTERM)

    with Path(log).open("ab") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "backbench.run_cell", *words],
            stdout=said, stderr=said, cwd=folder, env={**os.environ, **variables}, preexec_fn=end_with_worker,
            start_new_session=True,
        )  # fmt: skip
    try:
        while process.poll() is None:
            time.sleep(0.1)  # Ray's KeyboardInterrupt comes between two instructions, not in a wait
    except KeyboardInterrupt:
        process.terminate()
    return process.wait()


class RayExecutor(FollowedExecutor):
    """See there; ``options`` are ``mem`` and ``gpus`` of a cell. Ray is connected: ``ray_cluster.connect``.

    A stop cancels the tasks and waits until running cells have written a checkpoint; a second one waits no longer.
    """

    def _submit(self, cells: Sequence[Cell]) -> None:
        import ray

        some = cells[: max(0, self.jobs - len(self._tasks))] if self.jobs else cells
        if not some:
            return
        remote = ray.remote(**ray_cluster.needs(self.options), max_retries=RETRIES)(work)
        folder = self._job.results.absolute() / FOLDER / f"backbench-{uuid.uuid4().hex[:10]}"
        folder.mkdir(parents=True)
        variables = {name: text for name, text in os.environ.items() if name.startswith(PASSED)}
        for index, cell in enumerate(some):
            self._write(folder, index, cell)
            words = [str(folder / f"{index}.cell"), *self._words()]
            job = remote.remote(words, str(folder / f"{index}.log"), os.getcwd(), variables)
            self._tasks[cell.key] = Task(self._free.pop(cell.key), folder, index, job)
        self._say_once(f"logs of cells are in {folder.parent}")

    def _look(self) -> set[Any]:
        """The tasks that have ended."""
        import ray

        jobs = [task.job for task in self._tasks.values()]
        return set(ray.wait(jobs, num_returns=len(jobs), timeout=0)[0]) if jobs else set()

    def _over(self, task: Task, there: set[Any]) -> str:
        if task.job not in there:
            return ""
        status, said = _end_of(task.job)
        task.missed += 1
        if status == 0 and task.missed <= LATE:
            return ""
        again = "the same command resumes from its checkpoint"
        return f"{said or f'its process ended with exit status {status}'}; {task.log} may say why; {again}"

    def _leaving(self) -> bool:
        if not wait(LOOK_AGAIN if self._tasks or self._free else 0, lambda: self._asked > 0):
            return False
        import ray

        self._say("running cells write a checkpoint and end; Ctrl-C again does not wait for them")
        for task in self._tasks.values():
            ray.cancel(task.job, recursive=False)
        while len(self._look()) < len(self._tasks) and self._asked < 2:
            time.sleep(0.2)
        there = self._look()
        for task in list(self._tasks.values()):
            self._hear(task)
            if task.last in ("done", "failed", "taken", "error"):
                self._judge(task, there)
            else:
                self._end(Event(task.cell, "stopped"))
        return True


def _end_of(job: Any) -> tuple[int, str]:
    """Exit status of a task's process; -1 and why if Ray has none."""
    import ray

    try:
        status = int(ray.get(job))
    except Exception as error:  # whatever Ray raises for a node, a worker or a folder that is away
        lines = str(error).strip().splitlines()
        return -1, f"Ray says: {lines[-1][:300] if lines else type(error).__name__}"
    if status < 0:
        return status, f"its process died with signal {signal.Signals(-status).name}"
    return status, ""
