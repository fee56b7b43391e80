"""Several processes that train one cell together (``train.processes``), by PyTorch's DistributedDataParallel.

Each takes every n-th window of the batch. A loss is weighted by its real steps, so the gradient is that of the complete
batch. Rank 0 is the process that claimed the cell: it alone evaluates, writes checkpoints and the record. It starts the
others on this machine, or ``torchrun -m backbench.run_cell`` started all of them, on one machine or several.

Before each update rank 0 tells the others its number, and that training is over at the end. Dropout is drawn anew for
each update from the cell's seed, the update and the rank, so a resumed training has equal bits.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW

from backbench.agents.agent import Agent, Windows
from backbench.benchmarks.data.processes import environment
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.run.executors import Job, order
from backbench.errors import require
from backbench.files import write_whole
from backbench.text import url_path

PROGRAM = ".".join(("backbench", "run_cell"))  # started, and not imported: it leads here
OVER = -1  # instead of the number of an update
FAILED = 1  # exit status of a process whose training raised an error: rank 0's raises it too
PATIENCE = timedelta(days=7)  # the others wait while rank 0 evaluates
LAST_WORDS = 10.0  # seconds that a process has to end in
LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
READY = "ready-"  # begins the names of files that say which of them have started
MEET = "BACKBENCH_MEET"  # variable with the file by which processes of one machine find each other

Update = Callable[[Windows, int], Tensor]  # of a complete batch and the update's number; the loss before it


class Team:
    """The processes, as one of them sees them."""

    def __init__(self, cell: Cell, device: torch.device, others: list[subprocess.Popen[bytes]]) -> None:
        self.cell, self.device, self.others = cell, device, others
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.halfway = False  # in an update, which an error may have left: then nobody listens

    def updater(self, agent: Agent, optimizer: AdamW, loss_of: Callable[[Windows], Tensor]) -> Update:
        """The updates of ``agent``, after every process got rank 0's weights and moments."""
        # Static: the same weights get gradients in all updates, which may be fewer than all.
        model = DistributedDataParallel(_Loss(agent, loss_of), static_graph=True)
        self._share_moments(optimizer)

        def update(batch: Windows, number: int) -> Tensor:
            self.halfway = True
            try:
                self._tell(number)
                loss = self._update(model, optimizer, batch, number)
            except RuntimeError as error:
                self._look_after_others(error)
                raise
            self.halfway = False
            return loss

        return update

    def _update(self, model: nn.Module, optimizer: AdamW, batch: Windows, number: int) -> Tensor:
        config = self.cell.train
        own = Windows(**{name: value[self.rank :: self.size] for name, value in vars(batch).items()})
        count = own.mask.sum().float()
        total = count.clone()
        dist.all_reduce(total)
        words = np.random.SeedSequence([self.cell.seed, number, self.rank]).generate_state(1, np.uint64)
        torch.manual_seed(int(words[0] >> np.uint64(1)))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.bf16):
            share = model(own) * (count / total)
        optimizer.zero_grad(set_to_none=True)
        (share * self.size).backward()  # DistributedDataParallel takes the mean over processes
        if config.clip > 0:
            nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        loss: Tensor = share.detach().float()
        dist.all_reduce(loss)
        return loss

    def next_update(self) -> int:
        """The number of the next update, or ``OVER``, from rank 0."""
        number = torch.zeros(1, dtype=torch.int64, device=self.device)
        dist.broadcast(number, 0)
        return int(number)

    def _tell(self, number: int) -> None:
        if self.rank == 0:
            dist.broadcast(torch.tensor([number], device=self.device), 0)

    def _share_moments(self, optimizer: AdamW) -> None:
        """Give all the optimiser's state of rank 0, which may come from a checkpoint."""
        parameters = [one for group in optimizer.param_groups for one in group["params"]]
        known = torch.tensor([len(optimizer.state[one]) for one in parameters], device=self.device)
        dist.broadcast(known, 0)
        for one in (one for one, there in zip(parameters, known.tolist(), strict=True) if there):
            state = optimizer.state[one]
            if not state:
                state["step"] = torch.zeros((), device=self.device)  # on a CPU, or on a GPU that is captured
                state |= {name: torch.zeros_like(one) for name in ("exp_avg", "exp_avg_sq")}
            for name in ("step", "exp_avg", "exp_avg_sq"):
                dist.broadcast(state[name], 0)

    def _look_after_others(self, error: RuntimeError) -> None:
        """Raise ``ChildProcessError`` if another process was lost: training itself did not fail."""
        for one in self.others:
            with suppress(subprocess.TimeoutExpired):
                if (status := one.wait(1)) not in (0, FAILED):
                    said = f"a process that trains it too ended with status {status}; the same command resumes"
                    raise ChildProcessError(None, said, self.cell.key) from error

    def end(self) -> None:
        """Let the others end, and wait for it."""
        if self.rank == 0 and not self.halfway:
            with suppress(RuntimeError):  # one was lost
                self._tell(OVER)
            _end(self.others, LAST_WORDS)
        _end(self.others, 0)
        with suppress(RuntimeError):
            dist.destroy_process_group()


class _Loss(nn.Module):
    """The loss as ``forward``, which is what DistributedDataParallel wraps."""

    def __init__(self, agent: Agent, loss_of: Callable[[Windows], Tensor]) -> None:
        super().__init__()
        self.agent, self._loss_of = agent, loss_of

    def forward(self, batch: Windows) -> Tensor:
        return self._loss_of(batch)


def rank() -> int:
    """This process's number in its team; 0 where there is none. torchrun and `team` set RANK and WORLD_SIZE."""
    return int(os.environ.get("RANK", "0")) if _told() > 1 else 0


def _told() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def team(cell: Cell, job: Job, device: torch.device) -> Iterator[Team | None]:
    """In this block the processes that train ``cell`` together are there; None for a single one.

    Raises:
        UserError: fewer GPUs than processes, or torchrun started another number.
    """
    size = cell.train.processes
    said = f"torchrun started {_told()} processes, and the cell has train.processes={size}; give equal numbers"
    require(_told() in (1, size), said)
    if size == 1:
        yield None
        return
    here = int(os.environ.get("LOCAL_WORLD_SIZE", str(size)))  # torchrun may use several machines
    gpus = torch.cuda.device_count() if device.type == "cuda" else here
    require(gpus >= here, f"train.processes={size} needs as many GPUs, and this process sees {gpus}; give fewer")
    with tempfile.TemporaryDirectory(prefix="backbench-team-") as folder:
        alone = _told() == 1
        others: list[subprocess.Popen[bytes]] = []
        meet = (Path(folder) / "meet").as_uri() if alone else os.environ.get(MEET, "env://")
        try:
            with environment(**(LOOPBACK if alone else {})):
                if alone:
                    others += _start(cell, job, device, Path(folder), meet)
                    _wait_for(others, Path(folder), cell)
                elif place := os.environ.get(MEET):
                    url_path(place).with_name(f"{READY}{rank()}").touch()
                backend = "nccl" if device.type == "cuda" else "gloo"
                dist.init_process_group(backend, meet, PATIENCE, world_size=size, rank=rank())
            made = Team(cell, device, others)
            try:
                yield made
            finally:
                made.end()
        finally:
            _end(others, 0)


def _start(cell: Cell, job: Job, device: torch.device, folder: Path, meet: str) -> Iterator[subprocess.Popen[bytes]]:
    """The other processes, on this machine."""
    write_whole(path := folder / "cell.json", order(cell, job))
    words = [sys.executable, "-m", PROGRAM, str(path), "--results", str(job.results)]
    shared = {"WORLD_SIZE": str(cell.train.processes), MEET: meet}
    shared["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    for number in range(1, cell.train.processes):
        own = os.environ | shared | {"RANK": str(number), "LOCAL_RANK": str(number)}
        words_of = [*words, "--device", device.type]
        yield subprocess.Popen(words_of, env=own, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _wait_for(others: Sequence[subprocess.Popen[bytes]], folder: Path, cell: Cell) -> None:
    """Wait until all have started. PyTorch would wait for one that ended."""
    while len(list(folder.glob(f"{READY}*"))) < len(others):
        if ended := [one.returncode for one in others if one.poll() is not None]:
            said = f"a process that trains it too could not start: exit status {ended[0]}, and its last line says why"
            raise ChildProcessError(None, said, cell.key)
        time.sleep(0.05)


def _end(others: Iterable[subprocess.Popen[bytes]], patience: float) -> None:
    for one in others:
        try:
            one.wait(patience)
        except subprocess.TimeoutExpired:
            one.kill()
            one.wait()
