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
MOST = 1e12  # no reward, target or observation is beyond it


class Refused(ValueError):
    """What cannot be played, in one line."""


class Agent:
    """An exported agent and its history of one episode."""

    def __init__(self, folder, acting=None):
        """`acting`: "window" or "recurrent"; by default the one that the record's scores are of."""
        self.config = config = read(folder / "config.json")
        acting = acting or config["acting"]
        path = folder / (WINDOW if acting == "window" else STEP)
        if not config.get("graphs"):
            raise Refused(f"{folder} has no graphs; export the agent with --format onnx")
        if path.name not in config["graphs"]:
            known = ", ".join(config["graphs"])
            raise Refused(f"{folder} has no {path.name} for acting={acting}, and has {known}; choose with --acting")
        graph = content(path)
        if hashlib.sha256(graph).hexdigest() != config["graphs"][path.name]:
            raise Refused(f"{path} is not the file that was exported; export the agent again")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.inputs = {one.name: one for one in self.session.get_inputs()}
        self.outputs = [one.name for one in self.session.get_outputs()]
        self.decide = self._by_window if acting == "window" else self._by_step
        self.time = None  # no episode yet

    def reset(self, target=None, seed=0):
        """Begin an episode that aims at a return. `seed` is of sampled actions."""
        self.target = number("target", self.config["targets"][0] if target is None else target)
        self.generator = np.random.default_rng([seed, 0])
        self.time, self.action = 0, None
        self.state = {name: self._blank(name) for name in self.inputs if name.startswith("state_")}
        self.window = []  # of (return-to-go, observation, action, timestep), the newest last

    def act(self, observation, reward=None):
        """The environment's next action. `reward` is that of the last one; the first call of an episode has none."""
        if self.time is None:
            raise Refused("act: call reset first")
        about = self.config["observation"]
        seen = np.asarray(observation, dtype=np.float64).reshape(-1)
        size = int(about["parts"]) if about["parts"].isdigit() else len(seen)
        if len(seen) != size or not (np.abs(seen) <= MOST).all():
            raise Refused(f"act: give an observation of {size} numbers up to {MOST:g}; got {len(seen)}")
        if self.time:
            if reward is None:
                raise Refused("act: give the reward of the last action; it comes off the target return")
            earned = number("reward", reward)
            self.target -= np.clip(earned, -1, 1) if self.config["rewards"] != "raw" else earned
        seen = seen.astype(about["dtype"])
        seen = seen[about["keep"]] if about.get("keep") else seen
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


def number(name, value):
    """A finite number."""
    value = float(value)
    if not abs(value) <= MOST:
        raise Refused(f"{name} {value}: give a number up to {MOST:g}")
    return value


def content(path):
    """The bytes of a file of the folder."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}; export the agent again, or fetch the folder") from None


def read(path):
    """What `bench export` wrote into config.json, unchanged."""
    written = content(path)
    try:
        config = json.loads(written)
    except ValueError:
        raise Refused(f"{path} is damaged; export the agent again, or fetch the folder") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise Refused(f"{path} is of another version; this program reads format {FORMAT}")
    rest = {name: value for name, value in config.items() if name != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    if hashlib.sha256(text.encode()).hexdigest() != config.get("sha256"):
        raise Refused(f"{path} was changed; export the agent again, or fetch the folder")
    return config


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
    observation, reward, total, steps, done = env.reset(seed=seed)[0], None, 0.0, 0, False
    while not done and steps < agent.config["environment"]["max_steps"]:
        observation, reward, terminated, truncated, _ = env.step(agent.act(observation, reward))
        total, steps, done = total + float(reward), steps + 1, terminated or truncated
    return total, steps


def make(about):
    """The environment. Those of suite memory come with Backbench."""
    import gymnasium

    try:
        if about["id"].startswith("backbench/"):
            import backbench.environments  # noqa: F401  # registers them
        return gymnasium.make(about["id"], **about["kwargs"])
    except (gymnasium.error.Error, ImportError) as error:
        raise Refused(f"{about['id']} cannot be made here: {' '.join(str(error).split())}") from None


def at_least(least):
    """A whole number from `least` on, for argparse."""

    def whole(text):
        if int(text) < least:
            raise ValueError
        return int(text)

    whole.__name__ = f"whole number of {least} or more"
    return whole


def main(words=None):
    """Play episodes and print their returns. 0, or 2 after a line that says what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--episodes", type=at_least(1), default=1)
    parser.add_argument("--target", type=float, help="return to aim at; default: the record's first")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of the first episode; the next ones count up")
    parser.add_argument("--acting", choices=("window", "recurrent"), help="default: the one of the record's scores")
    asked = parser.parse_args(words)
    try:
        agent = Agent(asked.folder, asked.acting)
        about, seen = agent.config["environment"], agent.config["observation"]
        if seen.get("space") != "Box" or seen["missing"]:
            said = "this program plays environments with one vector of observations, all of it there"
            raise Refused(f"{about['id']}: {said}")
        env = make(about)
        for seed in range(asked.seed, asked.seed + asked.episodes):
            total, steps = play(agent, env, asked.target, seed)
            print(f"seed {seed}: return {total:.3f} in {steps} steps")
        env.close()
    except Refused as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
