"""Read a foreign file in a child process first, since the C libraries behind HDF5 and Arrow can crash on a damaged one.

The child's memory and time are limited. Only a file that it has read to the end is then read in this process.
"""

import faulthandler
import os
import resource
import signal
import warnings
from collections.abc import Callable
from pathlib import Path

from backbench.benchmarks.data.errors import DataError

SECONDS, RATE = 60, 5_000_000  # time limit of a trial: this, and a second for so many bytes
OUT_OF_MEMORY = 3  # exit status of the child


def trial(path: Path, size: int, memory: int, read: Callable[[], object]) -> None:
    """Run ``read`` in a child process that may take ``memory`` more bytes than this one.

    ``path`` of ``size`` bytes is named in errors. An exception of ``read`` is no error here: the caller meets it.
    Raises ``DataError`` if the child crashed, took too long or too much memory.
    """
    with warnings.catch_warnings(action="ignore"):  # of threads, which the child does not use
        child = os.fork()
    if child == 0:
        _run(memory, SECONDS + size // RATE, read)
    try:
        _, status = os.waitpid(child, 0)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    code = os.waitstatus_to_exitcode(status)
    problem = {0: "", OUT_OF_MEMORY: "takes too much memory to read", -signal.SIGALRM: "takes too long to read"}.get(
        code, f"crashes the library that reads it (signal {-code})"
    )
    if problem:
        raise DataError(f"{path} {problem}: it is damaged, or was made to do harm; get the file again")


def _run(memory: int, seconds: int, read: Callable[[], object]) -> None:
    """The child: ends the process, whatever happens."""
    code = 1
    faulthandler.disable()  # a crash is one line of the caller's
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both processes; this one is ended by the other
        signal.alarm(seconds)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + memory
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (most if hard < 0 else min(most, hard), hard))
        code = 0
        read()
    except MemoryError:
        code = OUT_OF_MEMORY
    except BaseException:  # the caller will meet it too
        pass
    finally:
        os._exit(code)
