"""Train the behaviour policies of the data source ``embedded``, and pack the chosen snapshots.

Needs the extra ``policies`` (Stable-Baselines Jax). Two steps, for robots and Atari games alike:

    python tools/train_policies.py train hopper --out runs/policies
    python tools/train_policies.py pack hopper --out runs/policies

``train`` writes a snapshot and its returns every few thousand steps. ``pack`` measures the promising snapshots, chooses
an expert and a ladder of replay snapshots, and writes the float16 pack and its part of the manifest.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from atari_policies import AtariPolicies
from gym_policies import GymPolicies
from policy_kind import Kind, load_rows

from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.policies.gaussian import PACK
from backbench.benchmarks.environments.vector import quiet_mujoco
from backbench.errors import UserError, suggest
from backbench.files import write_whole

KINDS: dict[str, Kind] = {name: kind for kind in (GymPolicies(), AtariPolicies()) for name in kind.recipes}


def train(name: str, out: Path, recipe: dict[str, Any]) -> None:
    """Train one environment's policy. Writes a snapshot and a line of log.jsonl every ``recipe["every"]`` steps."""
    from stable_baselines3.common.callbacks import BaseCallback

    kind, folder = KINDS[name], out / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.jsonl").unlink(missing_ok=True)
    (folder / "recipe.json").write_text(json.dumps({"env_id": kind.env_id(name), **recipe}, indent=1))
    model, snapshot = kind.learner(name, recipe)
    started = time.process_time()

    class Snapshots(BaseCallback):  # type: ignore[misc]
        due = 0

        def _on_step(self) -> bool:
            if self.num_timesteps < self.due:
                return True
            self.due = self.num_timesteps + recipe["every"]
            arrays, measured = snapshot()
            half: dict[str, Any] = {key: np.asarray(value, dtype=np.float16) for key, value in arrays.items()}
            np.savez(folder / f"{self.num_timesteps:08d}.npz", **half)
            row = {"steps": self.num_timesteps, "cpu_s": round(time.process_time() - started, 1), **measured}
            with (folder / "log.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
            print(name, row, flush=True)
            return True

    model.learn(recipe["steps"], callback=Snapshots())


def pack(names: Sequence[str], out: Path, target: Path = PACK) -> None:
    """Write ``<name>.npz`` and the name's part of ``manifest.json`` into the package's folder of policies.

    Args:
        names: environments. ``breakout=first`` reads the folder ``first`` instead of ``breakout``.
        out: folder of the trained environments' folders.
        target: where to write. The other parts of the manifest stay.

    Raises:
        DataError: an environment is unknown, was not trained, or not for long enough. Nothing of it is written.
    """
    for text in names:
        name, _, other = text.partition("=")
        if name not in KINDS:
            raise DataError(f"unknown environment '{name}'{suggest(name, KINDS)}")
        kind, folder = KINDS[name], out / (other or name)
        path = folder / "recipe.json"
        recipe = json.loads(path.read_text()) if path.is_file() else kind.recipes[name]
        chosen = kind.choose(name, folder, load_rows(folder), recipe)
        arrays: dict[str, Any] = {}
        for snapshot, row in chosen.items():
            with np.load(folder / f"{row['steps']:08d}.npz", allow_pickle=False) as source:
                arrays |= {f"{snapshot}/{key}": value.astype(np.float16) for key, value in source.items()}
        card = {"env_id": kind.env_id(name), **recipe, "versions": _versions(kind), "snapshots": chosen}
        _write(target, name, arrays, card)
        print(name, json.dumps(chosen, indent=1), flush=True)


def _write(target: Path, name: str, arrays: dict[str, Any], card: dict[str, Any]) -> None:
    def save(path: Path) -> None:
        with path.open("wb") as file:  # savez would add a suffix to a path
            np.savez_compressed(file, **arrays)

    write_whole(target / f"{name}.npz", save)
    path = target / "manifest.json"
    content = json.loads(path.read_text()) if path.exists() else {}
    write_whole(path, json.dumps(content | {name: card}, indent=1, sort_keys=True) + "\n")


def _versions(kind: Kind) -> dict[str, str]:
    found = {}
    for package in ("sbx-rl", "jax", "numpy", *kind.packages):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # packing needs no trainer
    return found


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = parser.add_subparsers(dest="command", required=True)
    one = sub.add_parser("train", help="train one environment's policy and keep snapshots")
    one.add_argument("name", choices=list(KINDS))
    one.add_argument("--seed", type=int, help="instead of the recipe's")
    one.add_argument("--steps", type=int, help="steps of the agent, instead of the recipe's")
    several = sub.add_parser("pack", help="choose snapshots and write them into the package")
    several.add_argument("names", nargs="*", default=list(KINDS), help="environments, or environment=folder")
    several.add_argument("--target", type=Path, default=PACK, help="another folder than the package's")
    for command in (one, several):
        command.add_argument("--out", type=Path, default=Path("runs/policies"), help="folder of the training runs")
    args = parser.parse_args(words)
    quiet_mujoco()
    if args.command == "pack":
        try:
            pack(args.names, args.out, args.target)
        except UserError as error:
            parser.exit(2, f"{error}\n")
    else:
        changed = {key: getattr(args, key) for key in ("seed", "steps") if getattr(args, key) is not None}
        train(args.name, args.out, KINDS[args.name].recipes[args.name] | changed)


if __name__ == "__main__":
    main()
