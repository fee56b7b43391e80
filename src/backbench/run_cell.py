"""``python -m backbench.run_cell CELL.json --results FOLDER``: one cell, from its settings to its record.

CELL.json holds the settings of a cell, as a record's ``provenance.config`` does, or
``{"cell": SETTINGS, "command": [the words that the record names], "backbones": {NAME: "module:Class"}}``.
Each event is a line of JSON on standard output. The exit status:

    0    there is a record
    1    the cell failed, and records/KEY.failed.json says why
    2    a mistake, said in one line
    75   another process holds the cell
    143  SIGTERM or SIGINT stopped it after a checkpoint: the same command resumes

Nothing below knows which engine started this process. As a name of the Python API, ``backbench.run_cell`` is a function.
"""

import sys

if __name__ != "__main__":
    raise ImportError("start it with python -m backbench.run_cell; from Python, backbench.run_cell is a function")

from backbench.benchmarks.run.executors.single import main

sys.exit(main(sys.argv[1:]))
