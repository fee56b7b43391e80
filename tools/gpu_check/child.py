"""The process of a stage: ``python -m gpu_check.child STAGE FILE SECONDS SETTINGS``."""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from gpu_check.settings import Settings

# A stage's function takes the settings, a function that gets each finding, and the seconds that it may take.
STAGES = {
    "tests": "gpu_check.suite:run_tests",
    "equality": "gpu_check.equality:compare_graphs",
    "cells": "gpu_check.cells:measure_cells",
    "packing": "gpu_check.packing:measure_packing",
    "simulator": "gpu_check.cells:measure_simulator",
    "speed": "gpu_check.suite:run_speed",
}


def main(words: list[str]) -> None:
    """Run a stage. Whatever it raises ends the process, with the message as the last line."""
    name, path, seconds, text = words
    module, _, function = STAGES[name].partition(":")
    with open(path, "w", encoding="utf-8") as file:

        def say(finding: dict[str, Any]) -> None:
            file.write(json.dumps(finding) + "\n")
            file.flush()

        getattr(importlib.import_module(module), function)(Settings.of(text), say, float(seconds))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("MINARI_DATASETS_PATH", str(Path(sys.argv[2]).with_name("store")))
    main(sys.argv[1:])
