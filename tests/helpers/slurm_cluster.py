"""A real Slurm on this machine for tests: a controller, and nodes of one core each, on 127.0.0.1 and in one folder.

Debian's packages munge, slurmctld, slurmd and slurm-client are there after ``make cluster-tools``. It needs root, since
Slurm's and Munge's daemons check who owns their files.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
CONF = """\
ClusterName=toy
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
ReturnToService=2
SlurmdTimeout=10
KillWait=20
OverTimeLimit=0
MpiDefault=none
SlurmdParameters=config_overrides
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports}] CPUs=1 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why there can be no Slurm here; empty if there can."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if absent:
        return f"Slurm's {', '.join(absent)} is not installed: make cluster-tools"
    return "" if os.geteuid() == 0 else "Slurm's daemons need root"


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin"


class Cluster:
    """A Slurm that runs. ``environment`` is what its commands need."""

    def __init__(self, nodes: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.environment = {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": _path()}
        for name in ("state", "spool", "munge"):
            (self.folder / name).mkdir(mode=0o700)
        self.folder.chmod(0o755)
        (self.folder / "munge" / "key").write_bytes(os.urandom(1024))
        (self.folder / "munge" / "key").chmod(0o400)
        ports, host = _free_ports(nodes + 1), socket.gethostname().partition(".")[0]
        conf = CONF.format(
            host=host, folder=self.folder, port=ports[0], nodes=nodes, ports=",".join(map(str, ports[1:]))
        )
        (self.folder / "slurm.conf").write_text(conf, encoding="utf-8")
        munge = self.folder / "munge"
        files = (f"--{name}={munge / name.partition('-')[0]}" for name in ("key-file", "pid-file", "seed-file"))
        self._start("munged", "--force", f"--socket={munge}/socket", f"--log-file={munge}/log", *files)
        self._start("slurmctld", "-c")
        for number in range(1, nodes + 1):
            self.start_node(f"n{number}")
        until(lambda: self.ask("sinfo", "-h", "-t", "idle", "-o", "%D").strip() == str(nodes), "idle nodes", 30)

    def _start(self, *words: str) -> None:
        subprocess.run(words, env={**os.environ, **self.environment}, check=True, capture_output=True, timeout=30)

    def start_node(self, name: str) -> None:
        (self.folder / "spool" / name).mkdir(exist_ok=True)
        self._start("slurmd", "-N", name, "-c")

    def stop_controller(self) -> None:
        self._kill(self.folder / "slurmctld.pid", signal.SIGTERM)

    def start_controller(self) -> None:
        self._start("slurmctld")

    def kill_node(self, name: str, pids: list[int]) -> None:
        """As if the machine had lost power: its daemon, the daemon's children, and the processes ``pids`` of cells."""
        daemon = int((self.folder / f"slurmd-{name}.pid").read_text(encoding="ascii"))
        steps = subprocess.run(["pgrep", "-f", f"slurmstepd.*{self.folder}|slurmstepd"], capture_output=True, text=True)
        parents = [int(pid) for pid in steps.stdout.split() if any(_parent(one) == int(pid) for one in pids)]
        for pid in (daemon, *parents, *pids):
            os.kill(pid, signal.SIGKILL)

    def ask(self, *words: str) -> str:
        done = subprocess.run(words, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=30)
        return done.stdout

    def stop(self) -> None:
        """End what was started, by the process ids in the folder."""
        self.ask("scancel", "--user=root")
        with suppress(AssertionError):  # a step that cannot tell the controller its end would wait for one
            until(lambda: not self.ask("squeue", "-h"), "end of all jobs", 30)
        for path in (*self.folder.glob("slurm*.pid"), self.folder / "munge" / "pid"):
            self._kill(path, signal.SIGTERM)
        time.sleep(1)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _kill(self, path: Path, number: int) -> None:
        with suppress(OSError, ValueError):
            os.kill(int(path.read_text(encoding="ascii")), number)


def _parent(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(fields[1])


def _free_ports(count: int) -> list[int]:
    kept = [socket.socket() for _ in range(count)]
    for one in kept:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in kept]
    for one in kept:
        one.close()
    return ports


def until(true: Callable[[], object], what: str, seconds: float) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"no {what} within {seconds} s"
        time.sleep(0.1)
