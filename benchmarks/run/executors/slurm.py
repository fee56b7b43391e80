"""Cells as array jobs of Slurm. They need no driver: this one submits them, follows the folder of results, and may die.

An array has a folder as ``followed`` describes, and in it ``keys``: the key of each of its cells, as JSON. A cell is
submitted if it has no record, nobody holds it, and no array in Slurm's queue has it. So the same command after a crash
finds its jobs by their names, and no gap lies between submitting a job and noting its number.
"""

import itertools
import json
import shlex
import shutil
import sys
import uuid
from collections.abc import Mapping, Sequence

from backbench import reading
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run.executors import sbatch
from backbench.benchmarks.run.executors.followed import FollowedExecutor, Task, wait
from backbench.benchmarks.run.executors.sbatch import SlurmError

FOLDER, KEYS = "slurm", "keys"
LOOK_AGAIN = 5.0  # seconds between two looks at the queue and the logs
SECOND_THOUGHT = 5.0  # seconds in which a second Ctrl-C cancels the jobs


class SlurmExecutor(FollowedExecutor):
    """See there; ``options`` are those of sbatch. ``run`` raises ``SlurmError`` if Slurm refuses and
    no cell is in its queue.

    The first stop leaves the jobs alone and ends; one within ``SECOND_THOUGHT`` after it cancels them too.
    """

    def _attach(self) -> None:
        """Find the cells that an earlier run submitted, and that Slurm still has."""
        known: dict[str, list[str]] = {}
        for (name, index), (job, state) in sbatch.queue().items():
            folder = self._job.results.absolute() / FOLDER / name
            if state in (*sbatch.ENDED, "COMPLETING") or not folder.is_dir():
                continue
            if name not in known:
                known[name] = [str(key) for key in reading.read_json(folder / KEYS)]
            key = known[name][index] if index < len(known[name]) else ""
            if (cell := self._free.pop(key, None)) is not None:
                self._tasks[cell.key] = Task(cell, folder, index, job)
        if self._tasks:
            self._say(f"{len(self._tasks)} cells are in Slurm's queue from before: job {self._numbers()}")

    def _submit(self, cells: Sequence[Cell]) -> None:
        arrays = _arrays(cells)
        side_by_side = 0 < len(arrays) <= self.jobs  # each has a share of the limit; else one runs after another
        before = ""
        for number, some in enumerate(arrays):
            most = (self.jobs + number) // len(arrays) if side_by_side else self.jobs
            after = {"dependency": f"afterany:{before}"} if before and self.jobs and not side_by_side else {}
            try:
                before = self._submit_array(some, most, {**self.options, **after})
            except SlurmError as error:
                if not self._tasks:
                    raise
                self._say_once(f"{error}; {sum(map(len, arrays[number:]))} cells wait, and are submitted later")
                return

    def _submit_array(self, cells: Sequence[Cell], most: int, options: Mapping[str, str]) -> str:
        """Submit cells, ``most`` at a time (0: any number); the job id."""
        folder = self._job.results.absolute() / FOLDER / f"backbench-{uuid.uuid4().hex[:10]}"
        folder.mkdir(parents=True)
        (folder / KEYS).write_text(json.dumps([cell.key for cell in cells]), encoding="utf-8")
        for index, cell in enumerate(cells):
            self._write(folder, index, cell)
        python = shlex.join([sys.executable, "-m", "backbench.run_cell"])
        command = f'exec {python} {shlex.quote(str(folder))}/"$SLURM_ARRAY_TASK_ID".cell {shlex.join(self._words())}'
        try:
            number = sbatch.submit(folder, len(cells), most, command, options)
        except SlurmError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        for index, cell in enumerate(cells):
            self._tasks[cell.key] = Task(self._free.pop(cell.key), folder, index, number)
        self._say(f"{len(cells)} cells submitted to Slurm as job {number}; their logs are in {folder}")
        return number

    def _look(self) -> dict[tuple[str, int], tuple[str, str]] | None:
        """Slurm's queue; None if it does not answer, which stops no job."""
        try:
            return sbatch.queue()
        except SlurmError as error:
            self._say_once(f"{error}; jobs go on, and so does following their logs")
            return None

    def _over(self, task: Task, there: Mapping[tuple[str, int], tuple[str, str]]) -> str:
        state = there.get((task.folder.name, task.index), ("", ""))[1]
        task.missed = task.missed + 1 if state in ("", *sbatch.ENDED) else 0
        if task.missed < 2:  # of a job that is being queued again, one look may see the end
            return ""
        return f"its job {task.job}_{task.index} {_over(task, state)}"

    def _leaving(self) -> bool:
        """Wait for the next look; whether a stop signal came meanwhile."""
        if not wait(LOOK_AGAIN if self._tasks or self._free else 0, lambda: self._asked > 0):
            return False
        self._say(
            f"jobs {self._numbers()} go on without this command, which finds them again, as bench status does; "
            f"Ctrl-C within {SECOND_THOUGHT:.0f} s cancels them"
        )
        if wait(SECOND_THOUGHT, lambda: self._asked > 1):
            sbatch.cancel(sorted({task.job for task in self._tasks.values()}))
            self._say("cancelled; cells that ran write a checkpoint first")
        return True

    def _numbers(self) -> str:
        return ", ".join(sorted({task.job for task in self._tasks.values()}))


def _arrays(cells: Sequence[Cell]) -> list[Sequence[Cell]]:
    """Cells in as few arrays as Slurm allows, of about equal size."""
    count = -(-len(cells) // sbatch.ARRAY)
    ends = [len(cells) * number // count for number in range(count + 1)] if count else []
    return [cells[start:end] for start, end in itertools.pairwise(ends)]


def _over(task: Task, state: str) -> str:
    """How a job without a record ended, and what to do."""
    again = "the same command resumes from its checkpoint"
    if state == "TIMEOUT":
        return f"reached its time limit; {again}, with a longer --time if there is none yet"
    if state == "OUT_OF_MEMORY":
        return "needed more memory than it had; give a larger --mem"
    if state == "CANCELLED":
        return f"was cancelled; {again}"
    return f"ended without a record{f' ({state})' if state else ''}; {task.log} may say why; {again}"
