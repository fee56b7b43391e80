"""Check an installed wheel, as a release builds it: the command starts, the kernels run, and a cell becomes a record.

    python tools/check_wheel.py

It must not find the repository's source, so it changes to an empty folder first. Exits 1 if something is missing.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        import backbench
        from backbench.backbones.kernels.native.loader import missing

        if why := missing():
            print(f"the compiled kernels are missing: {why}")
            return 1
        bench = Path(sys.executable).with_name("bench")
        command = [str(bench), "run", "--backbone", "mamba", "--suite", "memory", "--task", "repeat-4"]
        subprocess.run([*command, "--preset", "smoke", "--track", "none"], check=True)
        print(f"backbench {backbench.__version__}: {len(list(Path('results/records').glob('*.json')))} record")
    return 0


if __name__ == "__main__":
    sys.exit(main())
