"""Code in a fork of this process, which has imported its packages already: two seconds less than a new process.

Worker processes of the local executor are forks too. Tests of executors and of what happens at the start of a process
start it anew.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).parent
PATHS = {str(HERE), str(HERE.parents[1] / "tools")}  # of pytest, not of a user's process


def bench(words: Sequence[str], folder: Path, environment: Mapping[str, str], seconds: float) -> tuple[int, str, str]:
    """Exit status, output and errors of ``bench WORDS``; see ``call``."""
    from backbench.benchmarks.cli import app

    def main() -> None:
        sys.argv = ["bench", *words]
        app.main()

    return call(main, folder, environment, seconds)


def call(
    function: Callable[[], object], folder: Path, environment: Mapping[str, str], seconds: float
) -> tuple[int, str, str]:
    """Exit status (minus the number of a signal), output and errors of ``function``, called in ``folder``.

    Raises TimeoutExpired after ``seconds``, as ``subprocess.run`` does.
    """
    import torch  # noqa: F401  # once for all forks of this process

    said = folder / ".said", folder / ".complained"
    pid = os.fork()
    if pid == 0:
        _child(function, folder, environment, said)
    ends = time.monotonic() + seconds
    while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if time.monotonic() > ends:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise subprocess.TimeoutExpired(str(function), seconds)
        time.sleep(0.005)
    out, err = (path.read_text(encoding="utf-8") for path in said)
    for path in said:
        path.unlink()
    return os.waitstatus_to_exitcode(ended[1]), out, err


def _child(
    function: Callable[[], object], folder: Path, environment: Mapping[str, str], said: tuple[Path, Path]
) -> None:
    """As a new process would be: its streams, signals, folder, variables, path of modules, caches and warnings."""
    code: object = 1
    try:
        os.chdir(folder)
        os.environ.update(environment)
        for number, path in enumerate((os.devnull, *map(str, said))):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(handle, number)
            os.close(handle)
        sys.stdin, sys.stdout, sys.stderr = (
            open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115  # as long as the process
            for number, mode in enumerate("rww")
        )
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        added = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
        sys.path[:] = added + [entry for entry in sys.path if entry not in PATHS]
        for name, module in list(sys.modules.items()):
            if name.startswith("backbench"):
                for value in list(vars(module).values()):
                    if callable(clear := getattr(value, "cache_clear", None)):
                        clear()
        warnings.resetwarnings()
        from backbench.benchmarks.run.executors import local

        forks: Any = SimpleNamespace(get_context=lambda _: multiprocessing.get_context("fork"))
        local.multiprocessing = forks
        function()
        code = 0
    except SystemExit as ended:
        code = 0 if ended.code is None else ended.code
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code if isinstance(code, int) else 1)
