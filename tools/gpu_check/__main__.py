"""``PYTHONPATH=src:tools python -m gpu_check``: the check of a machine with a GPU. ``make gpu`` calls it."""

import argparse
import os
import sys
from dataclasses import replace

from backbench import terminal
from backbench.errors import UserError, require
from gpu_check.settings import Settings


def main(words: list[str]) -> int:
    """The exit status: 0 all stages are done, 1 one is not, 2 a mistake in the call or no GPU."""
    parser = argparse.ArgumentParser(prog="gpu", description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--device", default="cuda", help="cuda, or cpu for a rehearsal")
    parser.add_argument("--out", default=os.environ.get("OUT") or Settings.out, help="folder of the report")
    parser.add_argument("--seconds", type=float, default=Settings.seconds, help="of all stages together")
    given = parser.parse_args(words)
    try:
        require(20 <= given.seconds <= 3600, f"--seconds {given.seconds:g}: give 20 to 3600")
        from gpu_check.check import check

        settings = Settings(given.device, given.out, given.seconds)
        share = min(1.0, given.seconds / Settings.seconds)
        settings = replace(settings, cell_seconds=share * settings.cell_seconds)
        return check(settings if settings.cuda else settings.rehearsal())
    except (UserError, ImportError) as error:
        terminal.line(f"gpu: {error}", error=True)
        return 2


if __name__ == "__main__":
    terminal.ready()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, here and in the stages
    sys.exit(main(sys.argv[1:]))
