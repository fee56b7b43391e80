"""``bench watch``: play an episode of a record's evaluation again and draw pictures of it.

The episode is the same to the bit. The last digits of an agent's numbers depend on how many episodes are decided in one
batch, so the batch keeps its size: copies of this one episode replace the others, and each copy leaves when the record
says that its episode ended. Only one environment is played.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from backbench.agents.agent import Agent
from backbench.benchmarks.environments.kind import Camera, Environments
from backbench.benchmarks.plan.settings import Cell
from backbench.benchmarks.replay import pictures
from backbench.benchmarks.replay.load import find_record, head_of, load_agent
from backbench.benchmarks.replay.trust import cell_to_run
from backbench.benchmarks.run.checkpoint import LAST
from backbench.benchmarks.run.evaluate import Play, evaluate
from backbench.errors import UserError, require
from backbench.leaderboard.record.schema import Record, TargetScore

MOST_PICTURES = 300  # of a video
SLOWEST, FASTEST = 0.1, 0.03  # seconds that a picture of a video is shown


@dataclass(frozen=True)
class Request:
    """The episode to watch, and the pictures to make of it."""

    name: str  # path of a record, or a part of its key that no other record's key has
    results: Path  # folder of records and checkpoints
    episode: int = 0  # index of the evaluation's episode
    target: float | None = None  # one of the record's target returns; None for the first one
    out: Path = Path("watch")  # folder of the pictures
    frames: int = 12  # pictures of the strip
    video: bool = True
    max_steps: int = 0  # play at most so many; 0 for the complete episode
    trust: bool = False  # run what the record names even if it is not installed, see ``replay.trust``


@dataclass
class Playback:
    """A played episode. It has one view more than actions: the last one is after the last action."""

    views: list[NDArray[Any]] = field(default_factory=list)  # a game's newest frame (84, 84), or positions (nq,)
    actions: list[Any] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    seconds: float = 0.0  # of a step

    def earned(self, clipped: bool) -> NDArray[np.float64]:
        """(steps + 1,) sum of the rewards before each view."""
        rewards = np.clip(self.rewards, -1.0, 1.0) if clipped else np.array(self.rewards)
        return np.concatenate([[0.0], np.cumsum(rewards)])


class OneEpisode:
    """Environments of an evaluation of which only the one at ``index`` is played. The others are copies of it."""

    def __init__(self, inner: Environments, index: int, lengths: Sequence[int], camera: Camera) -> None:
        self.inner, self.index, self.lengths, self.camera = inner, index, lengths, camera
        self.playback = Playback(seconds=camera.seconds)  # the episode so far

    def reset(self, seeds: Sequence[int]) -> NDArray[Any]:
        state = self.inner.reset([seeds[self.index]])
        self.playback.views.append(self.camera.view(state))
        return np.repeat(state, len(seeds), axis=0)

    def step(
        self, running: Sequence[int], actions: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.bool_]]:
        row, count = list(running).index(self.index), len(running)
        state, reward, ended = self.inner.step([0], actions[row : row + 1])
        self.playback.actions.append(actions[row])
        self.playback.rewards.append(float(reward[0]))
        self.playback.views.append(self.camera.view(state))
        left = np.array([bool(ended[0]) or self.lengths[index] <= len(self.playback.actions) for index in running])
        left[row] = ended[0]
        return np.repeat(state, count, axis=0), np.repeat(reward, count), left

    def close(self) -> None:
        self.inner.close()


def replay(
    cell: Cell, agent: Agent, scores: Sequence[TargetScore], index: tuple[int, int], steps: int
) -> tuple[Playback, float, int]:
    """Play one episode of an evaluation again: the played episode, its return and its length.

    ``agent`` has the cell's trained weights and is on the device that is to decide. ``scores`` are the record's of all
    targets; ``index`` is that of the target among them, and of its episode. At most ``steps`` are played.
    """
    at, episode = index
    lengths = [length for score in scores for length in score.lengths]
    made: list[OneEpisode] = []

    def make(count: int) -> OneEpisode:
        inner = cell.kind.make(cell.environment, 1)
        camera = cell.kind.camera(cell.environment, inner)
        made.append(OneEpisode(inner, at * cell.eval.episodes + episode, lengths, camera))
        return made[0]

    play = replace(Play.of(cell, tuple(score.target for score in scores)), make=make, max_steps=steps)
    result = evaluate(agent, play, next(agent.parameters()).device)[at]
    return made[0].playback, result.returns[episode], result.lengths[episode]


def _target_index(record: Record, cell: Cell, asked: Request) -> int:
    """Index of the requested target among the record's. UserError: no such episode or target."""
    last = cell.eval.episodes - 1
    require(0 <= asked.episode <= last, f"--episode {asked.episode}: {record.key} has episodes 0 to {last}")
    require(asked.frames >= 1, f"--frames {asked.frames}: give at least 1")
    if asked.target is None:
        return 0
    targets = record.protocol.targets
    known = ", ".join(f"{target:g}" for target in targets)
    require(asked.target in targets, f"--target {asked.target:g}: {record.key} was evaluated with {known}")
    return targets.index(asked.target)


def watch(asked: Request) -> list[str]:
    """Play an episode of a record's evaluation again and write its pictures: lines that say what was found and written.

    Raises UserError: no such record, weights, episode or target; or a folder that cannot be written to.
    """
    record, results = find_record(asked.name, asked.results)
    if record.scores is None:
        raise UserError(f"{record.key} failed ({record.failure and record.failure.message}); there is nothing to watch")
    cell = cell_to_run(record, record.key, asked.trust)
    at = _target_index(record, cell, asked)
    weights = cell.checkpoint_folder(results) / LAST
    agent = load_agent(cell, weights, head_of(record), record.provenance.weights_sha256)
    try:
        asked.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {asked.out}: {error.strerror}; choose another folder with --out") from error

    # The record's device and threads, where possible: the bits of a decision depend on them.
    device = torch.device("cuda" if record.provenance.device == "cuda" and torch.cuda.is_available() else "cpu")
    torch.set_num_threads(record.provenance.threads)
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
    scores = record.scores.last.targets
    steps = min(cell.max_steps, asked.max_steps or cell.max_steps)
    playback, *now = replay(cell, agent.to(device), scores, (at, asked.episode), steps)

    then = [scores[at].returns[asked.episode], scores[at].lengths[asked.episode]]
    target = scores[at].target
    title = f"{cell.key}\ntarget {target:g}, episode {asked.episode}: return {now[0]:g} in {now[1]} steps"
    if now == then:
        said = "this episode is the same"
    elif now[1] == steps < cell.max_steps:
        said = "this episode was truncated by --max-steps"
    else:
        said = "this episode is NOT the same: the machine, its threads or the packages differ from the record's"
    compared = f"the record says: return {then[0]:g} in {then[1]} steps; {said}"
    stem = asked.out / f"{cell.key}-t{target:g}-e{asked.episode}"
    return [*title.splitlines(), compared, *_draw(cell, playback, target, title, stem, asked)]


def _draw(cell: Cell, playback: Playback, target: float, title: str, stem: Path, asked: Request) -> list[str]:
    """Write ``stem``.png and the video; lines that name them."""
    last = len(playback.actions)
    shown = np.unique(np.linspace(0, last, asked.frames).round().astype(int)).tolist()
    stride = max(-(-(last + 1) // (MOST_PICTURES - 1)), round(FASTEST / playback.seconds))
    moving = sorted({*range(0, last, stride), last}) if asked.video else []
    needed = sorted({*shown, *moving})
    views = [playback.views[step] for step in needed]
    if cell.kind.frames:
        drawn, how = [pictures.game_picture(view) for view in views], "the newest of the frames that the agent sees"
    else:
        drawn, how = pictures.robot_pictures(cell.task.env_id, np.stack(views))
    at = dict(zip(needed, drawn, strict=True))
    strip = stem.with_name(f"{stem.name}.png")
    captions = _captions(cell, playback, target, shown)
    pictures.write_strip(strip, f"{title}; {how}", [at[step] for step in shown], captions)
    lines = [f"pictures: {how}", f"written: {strip}"]
    if asked.video:
        seconds = min(max(stride * playback.seconds, FASTEST), SLOWEST)
        path = pictures.write_video(stem, [at[step] for step in moving], seconds)
        speed = stride * playback.seconds / seconds
        lines.append(f"written: {path} ({len(moving)} pictures, {speed:.1f} times real speed)")
    return lines


def _captions(cell: Cell, playback: Playback, target: float, steps: Sequence[int]) -> list[str]:
    names = cell.kind.action_names(cell.environment)
    so_far, counted = playback.earned(False), playback.earned(cell.task.rewards == "clipped")
    said = [names[int(a)] if names else " ".join(f"{part:+.2f}" for part in a) for a in playback.actions] + ["the end"]
    return [
        f"step {step}: {said[step]}\nreward so far {so_far[step]:.6g}, to go {target - counted[step]:.6g}"
        for step in steps
    ]
