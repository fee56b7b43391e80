"""Play an exported agent with NumPy and onnxruntime alone: no torch, no Backbench.

    python run.py FOLDER --seed 0 --episodes 3 --target 3600

FOLDER comes from `bench export RECORD --to FOLDER --format onnx`. Gymnasium makes the environment.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

FORMAT = 1  # of config.json
STEP, WINDOW = "step.onnx", "window.onnx"


class Agent:
    """An exported agent and its history of one episode."""

    def __init__(self, folder, acting=None):
        """`acting`: "window" or "recurrent"; by default the one that the record's scores are of."""
        self.config = config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if config["format"] != FORMAT:
            sys.exit(f"{folder}: format {config['format']} is of another version; this program reads {FORMAT}")
        acting = acting or config["acting"]
        path = folder / (WINDOW if acting == "window" else STEP)
        known = ", ".join(config["graphs"]) or "none"
        if path.name not in config["graphs"]:
            sys.exit(f"{folder} has no {path.name} for acting={acting}; it has {known}; choose with --acting")
        graph = path.read_bytes()
        if hashlib.sha256(graph).hexdigest() != config["graphs"][path.name]:
            sys.exit(f"{path} is not the file that was exported; export the agent again")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.inputs = {one.name: one for one in self.session.get_inputs()}
        self.outputs = [one.name for one in self.session.get_outputs()]
        self.decide = self._by_window if acting == "window" else self._by_step

    def reset(self, target=None, seed=0):
        """Begin an episode that aims at a return. `seed` is of sampled actions."""
        self.target = float(self.config["targets"][0] if target is None else target)
        self.generator = np.random.default_rng([seed, 0])
        self.time, self.action = 0, None
        self.state = {name: self._blank(name) for name in self.inputs if name.startswith("state_")}
        self.window = []  # of (return-to-go, observation, action, timestep), the newest last

    def act(self, observation, reward=0.0):
        """The environment's next action. `reward` is that of the last one."""
        if self.time:
            self.target -= np.clip(reward, -1, 1) if self.config["rewards"] != "raw" else reward
        seen = np.asarray(observation, dtype=self.config["observation"]["dtype"]).reshape(-1)
        keep = self.config["observation"].get("keep")
        seen = seen[keep] if keep else seen
        output = self.decide(seen)
        about, drawn = self.config["action"], self.generator.random()
        self.action = choose(output, about["temperature"], drawn) if about["discrete"] else output
        self.time += 1
        if about["discrete"]:
            return int(self.action) + about["start"]
        low, high = np.array(about["low"]), np.array(about["high"])
        return np.clip(low + (self.action.astype(float) + 1) / 2 * (high - low), low, high).astype(np.float32)

    def _blank(self, name):
        kind = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(uint8)": np.uint8}
        return np.zeros(self.inputs[name].shape, kind.get(self.inputs[name].type, np.float64))

    def _run(self, **given):
        known = {name: value for name, value in given.items() if name in self.inputs}
        return dict(zip(self.outputs, self.session.run(None, known), strict=True))

    def _by_step(self, seen):
        """One call a step, which carries the state."""
        previous = np.zeros(self.inputs["previous_action"].shape[1:]) if self.action is None else self.action
        found = self._run(
            observation=seen[None],
            return_to_go=np.array([self.target], np.float32),
            previous_action=np.asarray(previous, self._blank("previous_action").dtype)[None],
            timestep=np.array([self.time]),
            **self.state,
        )
        self.state = {name.removeprefix("next_"): value for name, value in found.items() if "state_" in name}
        return found[self.outputs[0]][0]

    def _by_window(self, seen):
        """One call on the last K steps. What comes after the newest step changes nothing, so it stays zero."""
        if self.window:
            self.window[-1]["actions"] = self.action
        self.window = self.window[1 - self.config["context"] :] if self.config["context"] > 1 else []
        self.window.append({"observations": seen, "returns_to_go": self.target, "timesteps": self.time})
        given = {name: self._blank(name) for name in self.inputs}
        for at, step in enumerate(self.window):
            for name in given.keys() & step.keys():
                given[name][0, at] = step[name]
        if self.config["window_timestep"] == "current" and "timesteps" in given:
            given["timesteps"][0, 0] = self.time
        return self._run(**given)[self.outputs[0]][0, len(self.window) - 1]


def choose(logits, temperature, drawn):
    """A discrete action: the likeliest one, or sampled with the number `drawn` in [0, 1)."""
    if temperature == 0:
        return int(logits.argmax())
    scaled = logits.astype(float) / temperature
    likely = np.exp(scaled - scaled.max())
    return min(int((drawn >= np.cumsum(likely / likely.sum())).sum()), len(logits) - 1)


def play(agent, env, target=None, seed=0):
    """The return and the length of one episode."""
    agent.reset(target, seed)
    observation, reward, total, steps, done = env.reset(seed=seed)[0], 0.0, 0.0, 0, False
    while not done and steps < agent.config["environment"]["max_steps"]:
        observation, reward, terminated, truncated, _ = env.step(agent.act(observation, reward))
        total, steps, done = total + float(reward), steps + 1, terminated or truncated
    return total, steps


def main(words=None):
    """Play episodes and print their returns."""
    import gymnasium

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--episodes", type=int, default=1)
    parser.add_argument("--target", type=float, help="return to aim at; default: the record's first")
    parser.add_argument("--seed", type=int, default=0, help="of the first episode; the next ones count up")
    parser.add_argument("--acting", choices=("window", "recurrent"), help="default: the one of the record's scores")
    asked = parser.parse_args(words)
    agent = Agent(asked.folder, asked.acting)
    about, seen = agent.config["environment"], agent.config["observation"]
    if seen.get("space") != "Box" or seen["missing"]:
        sys.exit(f"{about['id']}: this program plays environments with one vector of observations, all of it there")
    env = gymnasium.make(about["id"], **about["kwargs"])
    for seed in range(asked.seed, asked.seed + asked.episodes):
        total, steps = play(agent, env, asked.target, seed)
        print(f"seed {seed}: return {total:.3f} in {steps} steps")
    env.close()


if __name__ == "__main__":
    main()
