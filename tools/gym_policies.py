"""Robots: PPO or SAC, an expert, a medium and a ladder of replay snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from policy_kind import Kind, Row, Snapshot, ladder

from backbench.benchmarks.data.policies.gaussian import GaussianPolicy
from backbench.benchmarks.environments.vector import make_environment
from backbench.leaderboard.scores.normalise import normalise

EPISODE_STEPS = 1000
ENV_IDS = {"halfcheetah": "HalfCheetah-v5", "hopper": "Hopper-v5", "walker2d": "Walker2d-v5"}

_PPO = dict(n_steps=256, batch_size=256, n_epochs=10, learning_rate=3e-4, gamma=0.99, gae_lambda=0.95)
_SAC = dict(batch_size=256, train_freq=4, gradient_steps=16, learning_rate=1e-3)
# PPO is enough for Hopper and Walker2d, in minutes. HalfCheetah needs SAC and 1.5 hours of one core. Its first agent
# stops improving at a score of about 65. A second one with layer norms starts from the first one's replay buffer and
# is past that in a third of the updates.
RECIPES: dict[str, dict[str, Any]] = {
    "halfcheetah": dict(
        algorithm="SAC", seed=6, steps=1_000_000, every=20_000, envs=8, net=[256, 256], policy={"layer_norm": True},
        kwargs=_SAC | {"learning_starts": 0}, lr_after=[200_000, 3e-4],
        first=dict(
            algorithm="SAC", seed=1, steps=652_128, envs=8, net=[256, 256],
            kwargs=_SAC | {"learning_starts": 5_000}, lr_after=[501_632, 3e-4],
        ),
    ),
    "hopper": dict(algorithm="PPO", seed=0, steps=1_200_000, every=10_000, envs=8, net=[64, 64], kwargs=_PPO),
    "walker2d": dict(algorithm="PPO", seed=0, steps=1_200_000, every=20_000, envs=8, net=[128, 128], kwargs=_PPO),
}  # fmt: skip

# The ladder: fractions of the expert's score.
MEDIUM = 1 / 3
REPLAY = (0.1, 0.2, 0.33, 0.5)  # after an untrained one
EXPERTS, NEAREST = 5, 4  # measured candidates for the expert, and for each other snapshot
NOISE = 0.3  # share of the expert policy's own spread; 1 for all other snapshots


def rollout_returns(env_id: str, policy: GaussianPolicy, episodes: int, noise: float, seed: int) -> list[float]:
    """Undiscounted returns of complete episodes in a fresh environment. ``noise``: share of the policy's own spread."""
    env = make_environment(env_id)
    rng = np.random.default_rng(seed)
    returns = []
    for episode in range(episodes):
        obs, _ = env.reset(seed=seed + episode)
        total = 0.0
        for _ in range(EPISODE_STEPS):
            action = policy.act(obs[None], rng if noise else None, noise)[0]
            obs, reward, terminated, _, _ = env.step(action)
            total += float(reward)
            if terminated:
                break
        returns.append(total)
    env.close()
    return returns


def export_actor(model: Any, normaliser: Any) -> dict[str, Any]:
    """The actor's weights by their names in the pack, with the training's statistics of observations."""
    params = model.policy.actor_state.params["params"]
    depth = len(model.policy.net_arch_pi) if hasattr(model.policy, "net_arch_pi") else len(model.policy.net_arch)
    dense = [params[f"Dense_{i}"] for i in range(sum(k.startswith("Dense_") for k in params))]
    size = dense[0]["kernel"].shape[0]
    mean, scale = np.zeros(size), np.ones(size)
    if normaliser is not None:
        mean, scale = normaliser.obs_rms.mean, 1.0 / np.sqrt(normaliser.obs_rms.var + normaliser.epsilon)
    out = {"obs_mean": mean, "obs_scale": scale}
    for i, layer in enumerate(dense[:depth]):
        out |= {f"w{i}": layer["kernel"], f"b{i}": layer["bias"]}
    out |= {"mean_w": dense[depth]["kernel"], "mean_b": dense[depth]["bias"]}
    if "log_std" in params:
        out["log_std"] = params["log_std"]
    else:
        out |= {"std_w": dense[depth + 1]["kernel"], "std_b": dense[depth + 1]["bias"]}
    return {k: np.asarray(v, dtype=np.float16) for k, v in out.items()}


def make_model(env_id: str, recipe: dict[str, Any]) -> tuple[Any, Any]:
    """An untrained Stable-Baselines Jax model, and the normaliser of its observations, if it has one."""
    import sbx
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    env: Any = make_vec_env(env_id, n_envs=recipe["envs"], seed=recipe["seed"])
    # Only PPO gets normalised rewards and observations.
    normaliser = VecNormalize(env) if recipe["algorithm"] == "PPO" else None
    kwargs = dict(recipe["kwargs"])
    if "lr_after" in recipe:  # a fast start, then a smaller rate
        early, (change, late) = kwargs["learning_rate"], recipe["lr_after"]
        kwargs["learning_rate"] = lambda remaining: early if (1 - remaining) * recipe["steps"] < change else late
    model = getattr(sbx, recipe["algorithm"])(
        "MlpPolicy",
        normaliser or env,
        seed=recipe["seed"],
        policy_kwargs={"net_arch": recipe["net"]} | recipe.get("policy", {}),
        **kwargs,
    )
    return model, normaliser


class GymPolicies(Kind):
    recipes = RECIPES
    packages = ("gymnasium", "mujoco")

    def env_id(self, name: str) -> str:
        return ENV_IDS[name]

    def learner(self, name: str, recipe: dict[str, Any]) -> tuple[Any, Snapshot]:
        env_id = ENV_IDS[name]
        model, normaliser = make_model(env_id, recipe)
        if "first" in recipe:
            first, _ = make_model(env_id, recipe["first"])
            first.learn(recipe["first"]["steps"])
            model.replay_buffer = first.replay_buffer

        def snapshot() -> tuple[dict[str, Any], Row]:
            arrays = export_actor(model, normaliser)
            policy = GaussianPolicy.from_arrays(arrays)
            mode = float(np.mean(rollout_returns(env_id, policy, 5, 0.0, seed=10_000)))
            sampled = float(np.mean(rollout_returns(env_id, policy, 5, 1.0, seed=20_000)))
            score = round(normalise("d4rl", name, sampled), 1)
            return arrays, {"mode": round(mode, 1), "sampled": round(sampled, 1), "score": score}

        return model, snapshot

    def choose(self, name: str, folder: Path, rows: Sequence[Row], recipe: dict[str, Any]) -> dict[str, Row]:
        measured: dict[int, Row] = {}

        def plain(row: Row) -> Row:
            if row["steps"] not in measured:
                measured[row["steps"]] = measure(name, folder, row["steps"], 1.0)
            return measured[row["steps"]]

        best = sorted(rows, key=lambda row: -(row["mode"] + row["sampled"]))[:EXPERTS]
        expert = max((measure(name, folder, row["steps"], NOISE) for row in best), key=lambda found: found["score"])
        before = [row for row in rows if row["steps"] <= expert["steps"]]

        def climb(fractions: Sequence[float], taken: set[int]) -> list[Row]:
            wanted = [fraction * expert["score"] for fraction in fractions]
            return ladder(before, wanted, taken, lambda row: row["score"], lambda row: plain(row)["score"], NEAREST)

        (medium,) = climb([MEDIUM], set())
        rungs = [rows[0], *climb(REPLAY, {rows[0]["steps"]})]  # the first one is untrained
        replay = {f"replay{i}": plain(row) for i, row in enumerate(rungs)}
        return {"expert": expert, "medium": plain(medium), **replay}


def measure(name: str, folder: Path, steps: int, noise: float, episodes: int = 20) -> dict[str, Any]:
    """Returns of one snapshot with the noise of the data that will be generated."""
    with np.load(folder / f"{steps:08d}.npz", allow_pickle=False) as arrays:
        policy = GaussianPolicy.from_arrays(dict(arrays))
    returns = rollout_returns(ENV_IDS[name], policy, episodes, noise, seed=30_000)
    return {
        "steps": steps,
        "noise": noise,
        "episodes": episodes,
        "return_mean": round(float(np.mean(returns)), 1),
        "return_std": round(float(np.std(returns)), 1),
        "score": round(normalise("d4rl", name, float(np.mean(returns))), 1),
    }
