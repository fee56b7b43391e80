"""Atari games: PPO on the console's memory, an expert and a ladder of replay snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from policy_kind import Kind, Row, Snapshot, ladder

from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.policies.ram import RamPolicy
from backbench.benchmarks.data.sources.embedded_atari import MIXTURE
from backbench.benchmarks.environments.atari.emulator import Emulator
from backbench.benchmarks.environments.atari.protocol import AtariProtocol

# The learning rate falls to a tenth. Observations are bytes: adding 16 to the variance keeps bytes that hardly ever
# change from being scaled up. A training episode ends with a life, and rewards are signs. All games but Breakout begin
# with a multiple of 4 frames without action, so that an event falls on the same frame of an action each time.
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


# The ladder: fractions of the way from random play to the expert.
REPLAY = (0.1, 0.25, 0.5, 0.75)  # after an untrained one
EXPERTS, NEAREST = 4, 2  # measured candidates for the top, and for each rung
FEW, MANY = 4, 12  # episodes of a candidate, and of a packed snapshot; fewer where they are long:
LENGTH = 2_000  # steps an episode, on average, for which a measurement has time


def memory_games(game: str, count: int, seed: int, unit: int) -> Any:
    """A Stable-Baselines vector of ``count`` games. Observations are the memory, float32 (count, 128)."""
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


class AtariPolicies(Kind):
    recipes = RECIPES
    packages = ("ale-py",)

    def env_id(self, name: str) -> str:
        return f"ALE/{''.join(word.capitalize() for word in name.split('_'))}-v5"

    def learner(self, name: str, recipe: dict[str, Any]) -> tuple[Any, Snapshot]:
        import sbx
        from stable_baselines3.common.vec_env import VecNormalize

        games = memory_games(name, recipe["envs"], recipe["seed"] * 1000 + 1, recipe["noop_unit"])
        normaliser = VecNormalize(games, norm_reward=False, epsilon=recipe["variance"])
        rate = recipe["kwargs"]["learning_rate"]
        kwargs = recipe["kwargs"] | {"learning_rate": lambda remaining: rate * (0.1 + 0.9 * remaining)}
        policy = {"net_arch": recipe["net"]}
        model = sbx.PPO("MlpPolicy", normaliser, seed=recipe["seed"], policy_kwargs=policy, **kwargs)

        def snapshot() -> tuple[dict[str, Any], Row]:
            params, moments = model.policy.actor_state.params["params"], normaliser.obs_rms
            arrays = {"obs_mean": moments.mean, "obs_scale": 1 / np.sqrt(moments.var + recipe["variance"])}
            for i in range(3):
                arrays |= {f"w{i}": params[f"Dense_{i}"]["kernel"], f"b{i}": params[f"Dense_{i}"]["bias"]}
            ended, games.finished = games.finished, []
            totals, lengths = zip(*ended, strict=True) if ended else ((), ())
            return arrays, {
                "episodes": len(ended),
                "ret": round(float(np.mean(totals)), 1) if ended else None,
                "length": round(float(np.mean(lengths))) if ended else None,
            }

        return model, snapshot

    def choose(self, name: str, folder: Path, rows: Sequence[Row], recipe: dict[str, Any]) -> dict[str, Row]:
        unit = recipe["noop_unit"]
        played = [row for row in rows if row["ret"] is not None and (folder / f"{row['steps']:08d}.npz").is_file()]
        if len(played) <= len(REPLAY):
            raise DataError(f"{folder / 'log.jsonl'} has {len(played)} snapshots with returns; train longer")
        final = next(part for part in reversed(MIXTURE) if part.snapshot == "expert")
        rungs = next(part for part in MIXTURE if part.snapshot == f"replay{len(REPLAY)}")

        def quick(row: Row, temperature: float = rungs.temperature, epsilon: float = rungs.epsilon) -> float:
            policy = _policy(folder, row["steps"])
            mean: float = measure(name, policy, (temperature, epsilon), unit, FEW, 40_000)["return_mean"]
            return mean

        best = sorted(played, key=lambda row: -row["ret"])[:EXPERTS]
        expert = max(best, key=lambda row: quick(row, final.temperature, final.epsilon))
        top, bottom = quick(expert), quick(played[0], epsilon=1.0)
        wanted = [bottom + fraction * (top - bottom) for fraction in REPLAY]
        before = [row for row in played if row["steps"] < expert["steps"]]
        try:
            climbed = ladder(before, wanted, {rows[0]["steps"]}, lambda row: row["ret"], quick, NEAREST)
        except DataError as error:
            raise DataError(f"{folder}: {error}") from error
        chosen = {f"replay{i}": row["steps"] for i, row in enumerate([rows[0], *climbed])}
        chosen["expert"] = expert["steps"]
        result: dict[str, Row] = {}
        for snapshot, steps in sorted(chosen.items()):
            policy = _policy(folder, steps)
            noises = [(part.temperature, part.epsilon) for part in MIXTURE if part.snapshot == snapshot]
            plays = [measure(name, policy, noise, unit, MANY, 30_000) for noise in noises]
            result[snapshot] = {"steps": steps, "plays": plays}
        return result


def measure(
    game: str, policy: RamPolicy, noise: tuple[float, float], unit: int, episodes: int, seed: int
) -> dict[str, Any]:
    """Raw returns of complete episodes under the protocol.

    Args:
        game: its name.
        policy: a snapshot's.
        noise: temperature and epsilon, those of the data that will be generated.
        unit: number of actions without effect at the start is a multiple of it.
        episodes: fewer when they are long, at least two.
        seed: of starts and actions.
    """
    temperature, epsilon = noise
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
