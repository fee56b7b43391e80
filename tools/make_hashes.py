"""Write the table of hashes of the embedded data sets, from the store.

``bench data make d4rl atari memory memory-seen`` makes them. Raise ``embedded.VERSION`` when the bytes change.
"""

import csv
from importlib.metadata import version

from backbench.benchmarks.data import store
from backbench.benchmarks.data.sources import embedded
from backbench.benchmarks.environments.atari.protocol import GAMES

if __name__ == "__main__":
    with embedded.HASHES.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "sha256", "packages"])
        for name in embedded.SOURCE.ids():
            environment = name.split("/")[1]
            packages = ["numpy"] if environment == "memory" else ["gymnasium", "mujoco"]
            packages = ["ale-py"] if environment in GAMES else packages
            made_with = " ".join(f"{package}={version(package)}" for package in packages)
            table.writerow([name, store.read(name).digest, made_with])
