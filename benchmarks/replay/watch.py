"""``bench watch``: play an episode of a record's evaluation again, and make pictures of it.

The episode is the same to the bit: an agent's numbers depend, in their last digits, on how many episodes are decided
for at once, so the batch is as it was, with copies of this one episode in place of the others, each of which leaves
when the record says that it ended. Only this one is played.
"""

from __future__ import annotations

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
from backbench.benchmarks.replay import drawing
from backbench.benchmarks.replay.load import cell_of, find_record, load_agent
from backbench.benchmarks.run.checkpoint import weights_digest
from backbench.benchmarks.run.evaluate import Play, TargetResult, evaluate
from backbench.errors import UserError, require
from backbench.leaderboard.record.schema import Record, TargetScore

MOST_PICTURES = 300  # of a video
SLOWEST, FASTEST = 0.1, 0.03  # seconds that a picture of a video is shown


@dataclass
class Episode:
    """What was seen and done: one view more than there are actions, the last one after the last action."""

    views: list[NDArray[Any]] = field(default_factory=list)  # newest frame of a game (84, 84), or positions (nq,)
    actions: list[Any] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    seconds: float = 0.0  # of a step

    def earned(self, clipped: bool) -> NDArray[np.float64]:
        """(steps + 1,) sum of the rewards before each view."""
        rewards = np.clip(self.rewards, -1.0, 1.0) if clipped else np.array(self.rewards)
        return np.concatenate([[0.0], np.cumsum(rewards)])


class Alone:
    """Environments of an evaluation of which only ``number`` is played; the others are copies of it.

    Attributes:
        episode: what has been seen so far.
    """

    def __init__(self, inner: Environments, number: int, lengths: Sequence[int], camera: Camera) -> None:
        self.inner, self.number, self.lengths, self.camera = inner, number, lengths, camera
        self.time = 0
        self.episode = Episode(seconds=camera.seconds)

    def _see(self, state: NDArray[Any]) -> None:
        self.episode.views.append(self.camera.view(state))

    def reset(self, seeds: Sequence[int]) -> NDArray[Any]:
        state = self.inner.reset([seeds[self.number]])
        self._see(state)
        return np.repeat(state, len(seeds), axis=0)

    def step(
        self, numbers: Sequence[int], actions: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.bool_]]:
        row, count = list(numbers).index(self.number), len(numbers)
        state, reward, ended = self.inner.step([0], actions[row : row + 1])
        self.episode.actions.append(actions[row])
        self.episode.rewards.append(float(reward[0]))
        self._see(state)
        self.time += 1
        left = np.array([bool(ended[0]) or self.lengths[number] <= self.time for number in numbers])
        left[row] = ended[0]
        return np.repeat(state, count, axis=0), np.repeat(reward, count), left

    def close(self) -> None:
        self.inner.close()


def replay(
    cell: Cell, agent: Agent, scores: Sequence[TargetScore], place: int, episode: int, device: torch.device, steps: int
) -> tuple[Episode, TargetResult]:
    """Play one episode of an evaluation again.

    Args:
        cell: whose evaluation it was.
        agent: with the weights of then, on ``device``.
        scores: of all targets, as the record has them.
        place: of the target in ``scores``.
        episode: number of the episode.
        device: to decide on.
        steps: at most.

    Returns:
        What was seen, and its return and length.
    """
    episodes, lengths = cell.eval.episodes, [length for score in scores for length in score.lengths]
    made: list[Alone] = []

    def alone(count: int) -> Alone:
        inner = cell.kind.make(cell.environment, 1)
        camera = cell.kind.camera(cell.environment, inner)
        made.append(Alone(inner, place * episodes + episode, lengths, camera))
        return made[0]

    play = replace(Play.of(cell, tuple(score.target for score in scores)), make=alone, max_steps=steps)
    results = evaluate(agent, play, device)
    result = results[place]
    one = TargetResult(result.target, (result.returns[episode],), (result.lengths[episode],))
    return made[0].episode, one


def _checked(record: Record, cell: Cell, episode: int, target: float | None, frames: int) -> int:
    """Place of the target among the record's."""
    if record.scores is None:
        raise UserError(f"{record.key} failed ({record.failure and record.failure.message}); there is nothing to watch")
    require(
        cell.key == record.key,
        f"{record.key}: its settings make the cell {cell.key}; another version of Backbench wrote it, run it again",
    )
    require(
        0 <= episode < cell.eval.episodes,
        f"--episode {episode}: {record.key} has episodes 0 to {cell.eval.episodes - 1}",
    )
    require(frames >= 1, f"--frames {frames}: give at least 1")
    if target is None:
        return 0
    targets = record.protocol.targets
    if target not in targets:
        raise UserError(f"--target {target:g}: {record.key} was evaluated with {', '.join(f'{t:g}' for t in targets)}")
    return targets.index(target)


def watch(
    name: str,
    results: Path,
    episode: int = 0,
    target: float | None = None,
    out: Path = Path("watch"),
    frames: int = 12,
    with_video: bool = True,
    max_steps: int = 0,
) -> list[str]:
    """Play an episode of a record's evaluation again and write its pictures.

    Args:
        name: path of a record, or a part of its key that no other one has.
        results: folder of records and checkpoints.
        episode: number of the evaluation's episode.
        target: one of the record's target returns; None for the first one.
        out: folder of the pictures.
        frames: pictures of the strip.
        with_video: whether to make one.
        max_steps: play no further; 0 for the whole episode.

    Returns:
        Lines that say what was found and written.

    Raises:
        UserError: no such record, weights, episode or target; or a folder that cannot be written to.
    """
    record, results = find_record(name, results)
    cell = cell_of(record.provenance.config)
    place = _checked(record, cell, episode, target, frames)
    assert record.scores is not None
    weights = cell.checkpoint_folder(results) / "last.safetensors"
    agent = load_agent(cell, weights)
    if weights_digest(agent.state_dict()) != record.provenance.weights_sha256:
        raise UserError(
            f"weights {weights} are not those that the record was made with; bring them, or run the cell again"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror}; choose another folder with --out") from error

    # As it was then, where it can be: the bits of a decision depend on it.
    device = torch.device("cuda" if record.provenance.device == "cuda" and torch.cuda.is_available() else "cpu")
    torch.set_num_threads(record.provenance.threads)
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
    scores = record.scores.last.targets
    steps = min(cell.max_steps, max_steps or cell.max_steps)
    seen, played = replay(cell, agent.to(device), scores, place, episode, device, steps)

    then = (scores[place].returns[episode], scores[place].lengths[episode])
    now = (played.returns[0], played.lengths[0])
    title = f"target {played.target:g}, episode {episode}: return {now[0]:g} in {now[1]} steps"
    lines = [f"{cell.key}\n{title}", _compared(now, then, cut=now[1] == steps < cell.max_steps)]
    stem = out / f"{cell.key}-t{played.target:g}-e{episode}"
    return lines + _pictures(cell, seen, played.target, lines[0], stem, frames, with_video)


def _compared(now: tuple[float, int], then: tuple[float, int], cut: bool) -> str:
    said = f"the record says: return {then[0]:g} in {then[1]} steps"
    if now == then:
        return f"{said}; it is the same"
    if cut:
        return f"{said}; this was cut short by --max-steps"
    return f"{said}; it is NOT the same: the machine, its threads or the packages differ from the record's"


def _pictures(
    cell: Cell, seen: Episode, target: float, title: str, stem: Path, frames: int, with_video: bool
) -> list[str]:
    """Write strip and video; lines that say so."""
    last = len(seen.actions)
    shown = np.unique(np.linspace(0, last, frames).round().astype(int)).tolist()
    stride = max(-(-(last + 1) // (MOST_PICTURES - 1)), round(FASTEST / seen.seconds))
    moving = sorted({*range(0, last, stride), last}) if with_video else []
    needed = sorted({*shown, *moving})
    views = [seen.views[step] for step in needed]
    if not cell.kind.frames:
        pictures, how = drawing.robot_pictures(cell.task.env_id, np.stack(views))
    else:
        pictures, how = [drawing.game_picture(view) for view in views], "the newest of the frames that the agent sees"
    of = dict(zip(needed, pictures, strict=True))
    strip = stem.with_name(f"{stem.name}.png")
    drawing.strip(strip, f"{title}; {how}", [of[step] for step in shown], _captions(cell, seen, target, shown))
    lines = [f"pictures: {how}", f"written: {strip}"]
    if with_video:
        seconds = min(max(stride * seen.seconds, FASTEST), SLOWEST)
        path = drawing.video(stem, [of[step] for step in moving], seconds)
        lines.append(
            f"written: {path} ({len(moving)} pictures, {stride * seen.seconds / seconds:.1f} times real speed)"
        )
    return lines


def _captions(cell: Cell, seen: Episode, target: float, steps: Sequence[int]) -> list[str]:
    names = cell.kind.action_names(cell.environment)
    so_far, counted = seen.earned(False), seen.earned(cell.task.rewards == "clipped")

    def action(step: int) -> str:
        if step == len(seen.actions):
            return "the end"
        chosen = seen.actions[step]
        return names[int(chosen)] if names else " ".join(f"{part:+.2f}" for part in chosen)

    return [
        f"step {step}: {action(step)}\nreward so far {so_far[step]:.6g}, to go {target - counted[step]:.6g}"
        for step in steps
    ]
