"""Train the behaviour policies that ``embedded`` data is made from, and pack the chosen snapshots.

Needs the extra ``policies`` (Stable-Baselines Jax). Two steps:

    python tools/train_gym_policies.py train hopper --out runs/policies
    python tools/train_gym_policies.py pack --out runs/policies

``train`` writes a snapshot and its returns every few thousand steps; ``pack`` picks, for each environment, an
expert, a medium and a ladder of replay snapshots, and writes the float16 pack and its manifest.
"""

from __future__ import annotations

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from backbench.benchmarks.data.policies.gaussian import PACK, GaussianPolicy
from backbench.benchmarks.environments.vector import make_environment, quiet_mujoco
from backbench.leaderboard.scores.normalise import d4rl_score

EPISODE_STEPS = 1000
ENV_IDS = {"halfcheetah": "HalfCheetah-v5", "hopper": "Hopper-v5", "walker2d": "Walker2d-v5"}

_PPO = dict(n_steps=256, batch_size=256, n_epochs=10, learning_rate=3e-4, gamma=0.99, gae_lambda=0.95)
_SAC = dict(batch_size=256, train_freq=4, gradient_steps=16, learning_rate=1e-3)
# PPO is enough for Hopper and Walker2d, in minutes. HalfCheetah needs SAC and an hour and a half of one core: a first
# agent stops improving at about 65; a fresh one with layer norms, which starts from the first one's replay buffer,
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


def rollout_returns(
    env_id: str, policy: GaussianPolicy, episodes: int, stochastic: bool, seed: int, noise: float = 1.0
) -> list[float]:
    """Undiscounted returns of whole episodes, one after another, in a fresh environment."""
    env = make_environment(env_id)
    rng = np.random.default_rng(seed)
    returns = []
    for episode in range(episodes):
        obs, _ = env.reset(seed=seed + episode)
        total = 0.0
        for _ in range(EPISODE_STEPS):
            action = policy.act(obs[None], rng if stochastic else None, noise)[0]
            obs, reward, terminated, _, _ = env.step(action)
            total += float(reward)
            if terminated:
                break
        returns.append(total)
    env.close()
    return returns


def export_actor(model: Any, normaliser: Any) -> dict[str, Any]:
    """The actor's weights in the pack's names; observations normalised as in training."""
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
    """An untrained Stable-Baselines Jax model of a recipe, and what normalises its observations, if anything does."""
    import sbx
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    env: Any = make_vec_env(env_id, n_envs=recipe["envs"], seed=recipe["seed"])
    # Rewards and observations are normalised for PPO only: SAC works on raw ones.
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


def train(name: str, out: Path, recipe: dict[str, Any]) -> None:
    """Train one environment's policy; a snapshot and a line of ``log.jsonl`` every ``recipe["every"]`` steps."""
    from stable_baselines3.common.callbacks import BaseCallback

    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    env_id = ENV_IDS[name]
    model, normaliser = make_model(env_id, recipe)
    if "first" in recipe:
        first, _ = make_model(env_id, recipe["first"])
        first.learn(recipe["first"]["steps"])
        model.replay_buffer = first.replay_buffer
        del first
    started = time.process_time()
    (folder / "recipe.json").write_text(json.dumps({"env_id": env_id, **recipe}, indent=1))

    class Snapshots(BaseCallback):  # type: ignore[misc]
        due = 0

        def _on_step(self) -> bool:
            if self.num_timesteps < self.due:
                return True
            self.due = self.num_timesteps + recipe["every"]
            arrays = export_actor(model, normaliser)
            policy = GaussianPolicy.from_arrays(arrays)
            mode = rollout_returns(env_id, policy, 5, False, seed=10_000)
            sampled = rollout_returns(env_id, policy, 5, True, seed=20_000)
            np.savez(folder / f"{self.num_timesteps:08d}.npz", **arrays)
            row = {
                "steps": self.num_timesteps,
                "cpu_s": round(time.process_time() - started, 1),
                "mode": round(float(np.mean(mode)), 1),
                "sampled": round(float(np.mean(sampled)), 1),
                "score": round(d4rl_score(name, float(np.mean(sampled))), 1),
            }
            with (folder / "log.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
            print(name, row, flush=True)
            return True

    model.learn(recipe["steps"], callback=Snapshots())


# What a data set asks of the ladder of snapshots, as fractions of the expert's score.
MEDIUM = 1 / 3
REPLAY = (0.1, 0.2, 0.33, 0.5)  # after an untrained one, each another snapshot
NOISE = {"expert": 0.3}  # share of the policy's own spread; 1 for all other snapshots


def measure(name: str, folder: Path, steps: int, noise: float, episodes: int = 20) -> dict[str, Any]:
    """Returns of one snapshot with the noise that the data will be made with."""
    with np.load(folder / f"{steps:08d}.npz", allow_pickle=False) as arrays:
        policy = GaussianPolicy.from_arrays(dict(arrays))
    returns = rollout_returns(ENV_IDS[name], policy, episodes, True, seed=30_000, noise=noise)
    return {
        "steps": steps,
        "noise": noise,
        "episodes": episodes,
        "return_mean": round(float(np.mean(returns)), 1),
        "return_std": round(float(np.std(returns)), 1),
        "score": round(d4rl_score(name, float(np.mean(returns))), 1),
    }


def choose(name: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Snapshot names to what was measured of them: ``expert``, ``medium`` and ``replay0`` …, by score."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    experts = sorted(rows, key=lambda r: -(r["mode"] + r["sampled"]))[:5]
    expert = max((measure(name, folder, r["steps"], NOISE["expert"]) for r in experts), key=lambda m: m["score"])
    before = [r for r in rows if r["steps"] <= expert["steps"]]

    def nearest(fraction: float, taken: set[int]) -> dict[str, Any]:
        free = [r for r in before if r["steps"] not in taken]
        near = sorted(free, key=lambda r: abs(r["score"] - fraction * expert["score"]))[:4]
        measured = [measure(name, folder, r["steps"], 1.0) for r in near]
        return min(measured, key=lambda m: abs(m["score"] - fraction * expert["score"]))

    chosen = {"expert": expert, "medium": nearest(MEDIUM, set())}
    chosen["replay0"] = measure(name, folder, rows[0]["steps"], 1.0)  # untrained
    taken = {rows[0]["steps"]}
    for i, fraction in enumerate(REPLAY, start=1):
        chosen[f"replay{i}"] = nearest(fraction, taken)
        taken.add(chosen[f"replay{i}"]["steps"])
    return chosen


def pack(names: list[str], out: Path, target: Path = PACK) -> None:
    """Write ``<name>.npz`` and the name's part of ``manifest.json`` into the package's folder of policies."""
    path = target / "manifest.json"
    content = json.loads(path.read_text()) if path.exists() else {}
    for name in names:
        folder = out / name
        recipe = json.loads((folder / "recipe.json").read_text())
        chosen = choose(name, folder)
        arrays: dict[str, Any] = {}
        for snapshot, row in chosen.items():
            with np.load(folder / f"{row['steps']:08d}.npz", allow_pickle=False) as source:
                arrays |= {f"{snapshot}/{k}": v for k, v in source.items()}
        np.savez_compressed(target / f"{name}.npz", **arrays)
        packages = ["sbx-rl", "jax", "gymnasium", "mujoco", "numpy"]
        content[name] = {
            **recipe,
            "versions": {p: version(p) for p in packages},
            "snapshots": chosen,
        }
        print(name, json.dumps(chosen, indent=1))
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = parser.add_subparsers(dest="command", required=True)
    one = sub.add_parser("train", help="train one environment's policy and keep snapshots")
    one.add_argument("name", choices=sorted(ENV_IDS))
    one.add_argument("--seed", type=int, help="instead of the recipe's")
    one.add_argument("--steps", type=int, help="environment steps, instead of the recipe's")
    one.add_argument("--lr", type=float, help="learning rate, instead of the recipe's")
    several = sub.add_parser("pack", help="choose snapshots and write them into the package")
    several.add_argument("names", nargs="*", default=sorted(ENV_IDS))
    for command in (one, several):
        command.add_argument("--out", type=Path, default=Path("runs/policies"))
    args = parser.parse_args()
    quiet_mujoco()
    if args.command == "pack":
        pack(args.names, args.out)
    else:
        changed = {key: getattr(args, key) for key in ("seed", "steps") if getattr(args, key) is not None}
        train(args.name, args.out, RECIPES[args.name] | changed)


if __name__ == "__main__":
    main()
