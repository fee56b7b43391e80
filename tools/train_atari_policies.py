"""Train the behaviour policies that ``embedded`` data of Atari games is made from, and pack the chosen snapshots.

Needs the extra ``policies`` (Stable-Baselines Jax). Two steps:

    python tools/train_atari_policies.py train breakout --out runs/policies
    python tools/train_atari_policies.py pack --out runs/policies

``train`` runs PPO on the console's memory, and writes a snapshot and the returns of the episodes since the last one;
``pack`` measures the promising ones and picks, for each game, an expert and a ladder of replay snapshots, and writes
the float16 pack and the games' parts of its manifest.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.policies.gaussian import PACK
from backbench.benchmarks.data.policies.ram import RamPolicy
from backbench.benchmarks.data.sources.embedded_atari import MIXTURE
from backbench.benchmarks.environments.atari.emulator import Emulator
from backbench.benchmarks.environments.atari.protocol import GAMES, AtariProtocol
from backbench.errors import UserError, suggest

# The rate falls to a tenth. Observations are whole numbers up to 255: 16 more in the variance keeps bytes that hardly
# ever change from being blown up. An episode of training ends with a life, and its rewards are signs. All but Breakout
# begin with a multiple of 4 frames without action, so that the same events fall on the same one of an action's frames.
_PPO = dict(
    n_steps=128, batch_size=256, n_epochs=6, learning_rate=5e-4, gamma=0.99, gae_lambda=0.95, ent_coef=0.01,
    clip_range=0.15,
)  # fmt: skip
_COMMON = dict(algorithm="PPO", seed=0, every=50_000, envs=16, net=[128, 128], variance=16.0, kwargs=_PPO)
RECIPES: dict[str, dict[str, Any]] = {
    "breakout": _COMMON | dict(steps=2_500_000, noop_unit=1),
    "qbert": _COMMON | dict(steps=2_000_000, noop_unit=4),
    "pong": _COMMON | dict(steps=2_500_000, noop_unit=4),
    "seaquest": _COMMON | dict(steps=2_000_000, noop_unit=4),
}


def memory_games(game: str, count: int, seed: int, unit: int) -> Any:
    """``count`` games side by side as Stable-Baselines has them: memory float32 (count, 128) in, actions out."""
    import gymnasium as gym
    from stable_baselines3.common.vec_env import VecEnv

    class Games(VecEnv):  # type: ignore[misc]
        def __init__(self) -> None:
            self.games = [Emulator(game, pixels=False) for _ in range(count)]
            self.protocol = self.games[0].protocol
            self.rng = np.random.default_rng(seed)
            self.totals, self.lengths = np.zeros(count), np.zeros(count, dtype=int)
            self.finished: list[tuple[float, int]] = []
            spaces = gym.spaces.Box(0, 255, (128,), np.float32), gym.spaces.Discrete(self.games[0].n_actions)
            super().__init__(count, *spaces)

        def _start(self, i: int) -> None:
            self.games[i].reset(self.protocol.draw_noops(self.rng, unit))
            self.totals[i] = self.lengths[i] = 0

        def _observed(self) -> Any:
            return np.stack([g.ram() for g in self.games]).astype(np.float32)

        def reset(self) -> Any:
            for i in range(count):
                self._start(i)
            return self._observed()

        def step_async(self, actions: Any) -> None:
            self.actions = actions

        def step_wait(self) -> Any:
            rewards, done = np.zeros(count, np.float32), np.zeros(count, bool)
            infos: list[dict[str, Any]] = [{} for _ in range(count)]
            for i, g in enumerate(self.games):
                lives = g.lives
                reward, over = g.step(int(self.actions[i]))
                self.totals[i] += reward
                self.lengths[i] += 1
                over = over or self.lengths[i] >= self.protocol.max_steps
                rewards[i], done[i] = np.sign(reward), over or g.lives < lives
                if done[i]:
                    infos[i] = {"terminal_observation": g.ram().astype(np.float32), "TimeLimit.truncated": False}
                if over:
                    self.finished.append((float(self.totals[i]), int(self.lengths[i])))
                    self._start(i)
            return self._observed(), rewards, done, infos

        def close(self) -> None:
            pass

        def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
            return [None] * count

        def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
            pass

        def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
            return [None] * count

        def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
            return [False] * count

    return Games()


def train(game: str, out: Path, recipe: dict[str, Any]) -> None:
    """Train one game's policy; a snapshot and a line of ``log.jsonl`` every ``recipe["every"]`` steps."""
    import sbx
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.vec_env import VecNormalize

    folder = out / game
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.jsonl").unlink(missing_ok=True)
    (folder / "recipe.json").write_text(json.dumps(recipe, indent=1))
    games = memory_games(game, recipe["envs"], recipe["seed"] * 1000 + 1, recipe["noop_unit"])
    normaliser = VecNormalize(games, norm_reward=False, epsilon=recipe["variance"])
    rate = recipe["kwargs"]["learning_rate"]
    kwargs = recipe["kwargs"] | {"learning_rate": lambda remaining: rate * (0.1 + 0.9 * remaining)}
    model = sbx.PPO("MlpPolicy", normaliser, seed=recipe["seed"], policy_kwargs={"net_arch": recipe["net"]}, **kwargs)
    started = time.process_time()

    class Snapshots(BaseCallback):  # type: ignore[misc]
        due = 0

        def _on_step(self) -> bool:
            if self.num_timesteps < self.due:
                return True
            self.due = self.num_timesteps + recipe["every"]
            params, moments = model.policy.actor_state.params["params"], normaliser.obs_rms
            arrays = {"obs_mean": moments.mean, "obs_scale": 1 / np.sqrt(moments.var + recipe["variance"])}
            for i in range(3):
                arrays |= {f"w{i}": params[f"Dense_{i}"]["kernel"], f"b{i}": params[f"Dense_{i}"]["bias"]}
            half: dict[str, Any] = {k: np.asarray(v, dtype=np.float16) for k, v in arrays.items()}
            np.savez(folder / f"{self.num_timesteps:08d}.npz", **half)
            ended, games.finished = games.finished, []
            row: dict[str, Any] = {
                "steps": self.num_timesteps,
                "cpu": round(time.process_time() - started),
                "episodes": len(ended),
                "ret": round(float(np.mean([total for total, _ in ended])), 1) if ended else None,
                "length": round(float(np.mean([length for _, length in ended]))) if ended else None,
            }
            with (folder / "log.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
            print(game, row, flush=True)
            return True

    model.learn(recipe["steps"], callback=Snapshots())


# What a data set asks of the ladder of snapshots, as fractions of the way from random play to the expert.
REPLAY = (0.1, 0.25, 0.5, 0.75)  # after an untrained one
EXPERTS, NEAREST = 4, 2  # candidates that are measured for the top, and for each rung
FEW, MANY = 4, 12  # episodes of a candidate, and of what is packed; fewer where they are long:
LENGTH = 2_000  # steps an episode, on average, that a measurement has time for


def measure(
    game: str, policy: RamPolicy, temperature: float, epsilon: float, unit: int, episodes: int, seed: int
) -> dict[str, Any]:
    """Raw returns of whole episodes under the protocol, with the noise that the data will be made with."""
    emulator = Emulator(game, AtariProtocol(), pixels=False)
    rng = np.random.default_rng(seed)
    returns: list[float] = []
    steps = 0
    while len(returns) < episodes and (steps < episodes * LENGTH or len(returns) < 2):
        emulator.reset(emulator.protocol.draw_noops(rng, unit))
        total, length, over = 0.0, 0, False
        while not over and length < emulator.protocol.max_steps:
            (action,) = policy.act(emulator.ram()[None], [rng], temperature, epsilon)
            reward, over = emulator.step(int(action))
            total, length = total + reward, length + 1
        returns.append(total)
        steps += length
    return {
        "temperature": temperature,
        "epsilon": epsilon,
        "episodes": len(returns),
        "return_mean": round(float(np.mean(returns)), 1),
        "return_std": round(float(np.std(returns)), 1),
        "return_min": min(returns),
        "return_max": max(returns),
        "length_mean": round(steps / len(returns)),
    }


def _policy(folder: Path, steps: int) -> RamPolicy:
    with np.load(folder / f"{steps:08d}.npz", allow_pickle=False) as arrays:
        return RamPolicy.from_arrays(dict(arrays))


def choose(game: str, folder: Path, unit: int) -> dict[str, dict[str, Any]]:
    """Snapshot names to their training steps and what was measured of them: ``expert`` and ``replay0`` to 4."""
    lines = [json.loads(line) for line in _text(folder / "log.jsonl").splitlines()]
    rows = [row for row in lines if row["ret"] is not None and (folder / f"{row['steps']:08d}.npz").is_file()]
    if len(rows) <= len(REPLAY):
        raise DataError(f"{folder / 'log.jsonl'} has {len(rows)} snapshots with returns; train longer")
    final = next(part for part in reversed(MIXTURE) if part.snapshot == "expert")
    rungs = next(part for part in MIXTURE if part.snapshot == f"replay{len(REPLAY)}")

    def quick(row: dict[str, Any], temperature: float = rungs.temperature, epsilon: float = rungs.epsilon) -> float:
        policy = _policy(folder, row["steps"])
        mean: float = measure(game, policy, temperature, epsilon, unit, FEW, 40_000)["return_mean"]
        return mean

    best = sorted(rows, key=lambda row: -row["ret"])[:EXPERTS]
    expert = max(best, key=lambda row: quick(row, final.temperature, final.epsilon))
    top, bottom = quick(expert), quick(rows[0], epsilon=1.0)
    chosen, taken = {"replay0": lines[0]["steps"], "expert": expert["steps"]}, {lines[0]["steps"], expert["steps"]}
    for rung, fraction in enumerate(REPLAY, start=1):
        wanted = bottom + fraction * (top - bottom)
        free = [row for row in rows if row["steps"] < expert["steps"] and row["steps"] not in taken]
        if not free:
            raise DataError(f"{folder}: the best snapshot comes too early for a ladder below it; train longer")
        near = sorted(free, key=lambda row, wanted=wanted: abs(row["ret"] - wanted))[:NEAREST]  # type: ignore[misc]
        found = min(near, key=lambda row, wanted=wanted: abs(quick(row) - wanted))  # type: ignore[misc]
        chosen[f"replay{rung}"] = found["steps"]
        taken.add(found["steps"])
    result: dict[str, dict[str, Any]] = {}
    for snapshot, steps in sorted(chosen.items()):
        policy = _policy(folder, steps)
        noises: Sequence[Any] = [part for part in MIXTURE if part.snapshot == snapshot]
        plays = [measure(game, policy, part.temperature, part.epsilon, unit, MANY, 30_000) for part in noises]
        result[snapshot] = {"steps": steps, "plays": plays}
    return result


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror}); train first, or name the folder with --out") from error


def pack(games: Sequence[str], out: Path, target: Path = PACK) -> None:
    """Write ``<game>.npz`` and the game's part of ``manifest.json`` into the package's folder of policies.

    Args:
        games: names; ``breakout=first`` takes the folder ``first`` where ``breakout`` would take its own.
        out: folder of the trained games' folders.
        target: where to write; the manifest's other parts stay.

    Raises:
        DataError: a game that was not trained, or not for long enough; nothing of it is written.
    """
    for name in games:
        game, _, place = name.partition("=")
        if game not in RECIPES:
            raise DataError(f"unknown game '{game}'{suggest(game, RECIPES)}")
        folder = out / (place or game)
        noted = folder / "recipe.json"
        recipe = json.loads(noted.read_text()) if noted.is_file() else RECIPES[game]
        chosen = choose(game, folder, recipe["noop_unit"])
        arrays: dict[str, Any] = {}
        for snapshot, row in chosen.items():
            with np.load(folder / f"{row['steps']:08d}.npz", allow_pickle=False) as source:
                arrays |= {f"{snapshot}/{k}": v.astype(np.float16) for k, v in source.items()}
        title = "".join(word.capitalize() for word in game.split("_"))
        card = {"env_id": f"ALE/{title}-v5", **recipe, "versions": _versions(), "snapshots": chosen}
        part = target / f".{game}.part.npz"
        np.savez_compressed(part, **arrays)
        os.replace(part, target / f"{game}.npz")
        path = target / "manifest.json"
        content = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(content | {game: card}, indent=1, sort_keys=True) + "\n")
        print(game, json.dumps(chosen, indent=1), flush=True)


def _versions() -> dict[str, str]:
    found = {}
    for package in ("sbx-rl", "jax", "ale-py", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # packing needs no trainer
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = parser.add_subparsers(dest="command", required=True)
    one = sub.add_parser("train", help="train one game's policy and keep snapshots")
    one.add_argument("name", choices=GAMES)
    one.add_argument("--seed", type=int, help="instead of the recipe's")
    one.add_argument("--steps", type=int, help="steps of the agent, instead of the recipe's")
    several = sub.add_parser("pack", help="choose snapshots and write them into the package")
    several.add_argument("names", nargs="*", default=list(GAMES), help="games, or game=folder")
    several.add_argument("--target", type=Path, default=PACK, help="another folder than the package's")
    for command in (one, several):
        command.add_argument("--out", type=Path, default=Path("runs/policies"))
    args = parser.parse_args()
    if args.command == "pack":
        try:
            pack(args.names, args.out, args.target)
        except UserError as error:
            parser.exit(2, f"{error}\n")
    else:
        changed = {key: getattr(args, key) for key in ("seed", "steps") if getattr(args, key) is not None}
        train(args.name, args.out, RECIPES[args.name] | changed)


if __name__ == "__main__":
    main()
