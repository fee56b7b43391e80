"""A trained agent that keeps its own history, so that it is played with observations and rewards alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from backbench.agents.acting import Actor, make_actor
from backbench.benchmarks.api.carry import whole
from backbench.benchmarks.api.senses import Pixels, Vectors, differences, rows_of
from backbench.benchmarks.data.processes import steady
from backbench.benchmarks.environments.spaces import Actions
from backbench.errors import UserError, require
from backbench.leaderboard.record.fields import MOST
from backbench.leaderboard.record.schema import Record

if TYPE_CHECKING:
    from backbench.agents.agent import Agent
    from backbench.benchmarks.plan.settings import Cell


MOST_ROWS = 100_000


class Copies:
    """The episodes of a record's evaluation as rows of one batch: one is played, and copies of it replace the others.

    The last digits of a decision depend on the rows that are decided with it.
    """

    def __init__(self, lengths: Sequence[int], own: int) -> None:
        self.lengths, self.own = lengths, own
        self.rows = list(range(len(lengths)))  # that are decided

    def leave(self, actor: Actor, steps: int) -> None:
        """A copy leaves when the episode that it replaces ended."""
        stay = [i for i, row in enumerate(self.rows) if row == self.own or self.lengths[row] > steps]
        if len(stay) < len(self.rows):
            actor.keep(torch.tensor(stay, device=actor.target.device))
            self.rows = [self.rows[i] for i in stay]


class Player:
    """A trained agent with its history of an episode, or of a batch of episodes that start together.

    It sees, scales and decides as the evaluation of its record does: the suite's filter of observations, stacked
    frames, clipped rewards, the head's sampling, the protocol of acting, and the record's number of threads.
    """

    def __init__(self, record: Record, cell: Cell, agent: Agent, spaces: tuple[Any, Any]) -> None:
        self.record = record
        self.cell = cell
        self.agent = agent  # the network
        self.observation_space, self.action_space = spaces  # of Gymnasium
        self._device = next(agent.parameters()).device
        self._actions = Actions.of(self.action_space, cell.task.env_id)
        space = self.observation_space
        self._eyes = Pixels(*space.shape[:2]) if cell.kind.frames else Vectors(space, cell.task.observe)
        self._actor: Actor | None = None
        self._single = True
        self._steps = 0  # decisions of this episode
        self._generators: list[np.random.Generator] = []
        self._copies: Copies | None = None  # None unless an episode of the record is played

    def __repr__(self) -> str:
        return f"<agent of {self.record.key}, {self.cell.eval.acting} acting>"

    @property
    def targets(self) -> tuple[float, ...]:
        """The record's target returns, the headline's first, on the scale of ``cell.task.rewards``."""
        return tuple(self.record.protocol.targets)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the environments in the record's evaluation: episode i began with ``env.reset(seed=seeds[i])``."""
        return _starts(self.cell.eval.seed, self.cell.eval.episodes)

    @property
    def max_steps(self) -> int:
        """The longest episode of the record's evaluation, in steps."""
        return self.cell.max_steps

    def check(self, env: Any) -> None:
        """Raise ``UserError`` unless an environment, or a vector of them, has the agent's spaces."""
        theirs = [
            getattr(env, f"single_{name}", None) or getattr(env, name, None)
            for name in ("observation_space", "action_space")
        ]
        require(None not in theirs, f"check: {type(env).__name__} has no spaces; give a Gymnasium environment")
        mine = self.observation_space, self.action_space
        wrong = differences((theirs[0], theirs[1]), mine, self.cell.kind.frames)
        name = getattr(getattr(env, "spec", None), "id", None) or type(env).__name__
        if wrong:
            raise UserError(f"environment {name} does not fit the agent of {self.cell.task.env_id}: {'; '.join(wrong)}")

    def reset(
        self,
        target: float | Sequence[float] | None = None,
        seed: int = 0,
        batch: int | None = None,
        episode: int | None = None,
    ) -> None:
        """Begin an episode, or ``batch`` of them. Nothing is left of the history.

        Args:
            target: the return to aim at, on the scale of the environment's rewards; one for each row, or one for all.
                None: the record's first.
            seed: of sampled actions and of missing observations. Row i of seed s is what episode i of an evaluation
                with ``eval.seed=s`` gets.
            batch: rows that play at once; None for a single episode without an axis of rows.
            episode: decide as in this episode of the record's evaluation, to the bit: with its random numbers, in a
                batch of its size. Then begin the environment with ``agent.seeds[episode]``, and give no seed or batch.

        Raises:
            UserError: a target, batch or episode that cannot be.
        """
        if episode is not None:
            self._as_in_the_record(target, seed, batch, episode)
            return
        rows = 1 if batch is None else batch
        require(
            whole(rows, 1) and rows <= MOST_ROWS, f"reset: batch={batch!r}; give a whole number, 1 to {MOST_ROWS:,}"
        )
        require(whole(seed), f"reset: seed={seed!r}; give a whole number of 0 or more")
        self._begin(_targets(target, rows, self.targets[0]), seed, range(rows), _starts(seed, rows))
        self._single, self._copies = batch is None, None

    def _as_in_the_record(self, target: Any, seed: int, batch: int | None, episode: int) -> None:
        episodes, protocol = self.cell.eval.episodes, self.targets
        require(batch is None and seed == 0, "reset: episode= has its own seed and batch; leave seed and batch out")
        known = whole(episode) and episode < episodes
        require(known, f"reset: episode={episode!r}; the record has episodes 0 to {episodes - 1}")
        goal = protocol[0] if target is None else target
        require(goal in protocol, f"reset: target={goal!r}; the record has {', '.join(f'{one:g}' for one in protocol)}")
        assert self.record.scores is not None
        lengths = [length for score in self.record.scores.last.targets for length in score.lengths]
        goals = [one for one in protocol for _ in range(episodes)]
        self._begin(goals, self.cell.eval.seed, [episode], [self.seeds[episode]])
        self._single, self._copies = True, Copies(lengths, protocol.index(goal) * episodes + episode)

    def _begin(self, goals: Sequence[float], seed: int, numbers: Sequence[int], starts: Sequence[int]) -> None:
        of = self.cell
        targets = torch.tensor(goals, device=self._device)
        self._actor = make_actor(self.agent, of.eval.acting, targets, of.model.context, of.eval.timestep)
        self._generators = [np.random.default_rng([seed, number]) for number in numbers]
        self._eyes.start(starts)
        self._steps = 0

    def act(self, observation: Any, reward: ArrayLike | None = None) -> Any:
        """The next action, as ``env.step`` takes it.

        Without ``reset`` before it, an episode begins with the defaults of ``reset``.

        Args:
            observation: of the environment, as it gives it. With a batch: (n, *shape), a list of n, or a mapping of
                arrays with n rows. Atari: the newest frame, uint8 (84, 84), or a stack of them with the newest last.
            reward: of the last action, raw; (n,) with a batch. None, or 0, on the first call of an episode.

        Returns:
            One action, or with a batch (n, *shape), (n,) int64 if discrete.

        Raises:
            UserError: an observation of another space, or a reward that is missing, is no number, or comes too early.
            FloatingPointError: the weights give an action that is not finite, perhaps because an observation is far
                from all that were trained on. Call ``reset``: the history has it.
        """
        if self._actor is None:
            self.reset()
        assert self._actor is not None
        count = len(self._generators)
        earned = self._earned(reward, count)
        seen = self._eyes.look([observation] if self._single else rows_of(observation, count))
        with steady(self.record.provenance.threads, self._device.type):
            if self._steps:
                self._actor.update(torch.tensor(earned, dtype=torch.float32, device=self._device))
            chosen = self._decide(seen)
        self._steps += 1
        actions = [self._actions.to_environment(one) for one in chosen]
        return actions[0] if self._single else np.stack(actions)

    def _decide(self, seen: NDArray[Any]) -> NDArray[Any]:
        """(n, action_dim) or (n,) actions of the agent for what it sees (n, …)."""
        assert self._actor is not None
        agent, copies = self.agent, 1
        uniforms = [one.random() for one in self._generators]
        if self._copies is not None:
            self._copies.leave(self._actor, self._steps)
            copies = len(self._copies.rows)
            seen = np.repeat(seen, copies, axis=0)
        states = torch.as_tensor(seen, dtype=torch.uint8 if seen.dtype == np.uint8 else torch.float32)
        numbers = torch.tensor(uniforms * copies) if agent.head.draws else None
        found = self._actor.act(states.to(self._device), numbers)
        actions: NDArray[Any] = (found.float() if found.is_floating_point() else found).cpu().numpy()
        if not np.isfinite(actions).all():
            raise FloatingPointError(
                "the agent's actions are not finite; is an observation far off? Call reset to go on"
            )
        return actions if self._copies is None else actions[[self._copies.rows.index(self._copies.own)]]

    def _earned(self, reward: ArrayLike | None, count: int) -> NDArray[np.float64]:
        """(rows,) what the last actions earned, as it comes off the targets."""
        if self._steps == 0:
            early = reward is not None and np.any(np.asarray(reward) != 0)
            require(not early, "act: the first call of an episode has no reward; call reset between episodes")
            return np.zeros(count)
        require(reward is not None, "act: give the reward of the last action; it comes off the target return")
        try:
            values = np.asarray(reward, dtype=np.float64)
        except (TypeError, ValueError):
            values = np.full(1, np.nan)
        wanted: tuple[int, ...] = () if self._single else (count,)
        fits = values.size == 1 if self._single else values.shape == wanted
        require(
            fits and bool((np.abs(values) <= MOST).all()),
            f"act: reward={reward!r}; give {'a number' if self._single else f'{count} numbers, one a row'}",
        )
        values = values.reshape(-1)
        if self.cell.task.rewards == "clipped":
            values = np.clip(values, -1.0, 1.0)
        return values if self._copies is None else np.repeat(values, len(self._copies.rows))

    def keep(self, rows: Sequence[int] | NDArray[Any]) -> None:
        """Continue with these rows of a batch only: indices, or a mask of booleans.

        A row whose episode has ended stays until it is dropped here, and its actions mean nothing. The other rows are
        not affected, up to the last digits of a number, which depend on the size of a batch. Rows cannot begin again
        alone: episodes of a batch start together.

        Raises:
            UserError: there is no batch, or no such row.
        """
        require(self._actor is not None and not self._single, "keep: there is no batch; call reset(batch=n) first")
        assert self._actor is not None
        count, chosen = len(self._generators), np.asarray(rows)
        if chosen.dtype == bool and chosen.shape == (count,):
            chosen = np.flatnonzero(chosen)
        inside = chosen.ndim == 1 and chosen.dtype.kind in "iu" and ((chosen >= 0) & (chosen < count)).all()
        fits = bool(inside) and len(chosen) > 0 and len(np.unique(chosen)) == len(chosen)
        require(fits, f"keep: rows={rows!r}; give some of 0 to {count - 1}, each once, or {count} booleans")
        self._actor.keep(torch.tensor(chosen, device=self._device, dtype=torch.int64))
        self._eyes.keep(chosen.tolist())
        self._generators = [self._generators[row] for row in chosen]


def _targets(target: float | Sequence[float] | None, rows: int, default: float) -> list[float]:
    try:
        values = np.asarray(default if target is None else target, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.full(rows + 1, np.nan)
    fits = values.shape in ((), (rows,)) and bool((np.abs(values) <= MOST).all())
    require(fits, f"reset: target={target!r}; give a number up to {MOST:g}, or one for each of {rows} rows")
    return list(np.broadcast_to(values, rows).tolist())


def _starts(seed: int, count: int) -> tuple[int, ...]:
    return tuple(int(one) for one in np.random.SeedSequence(seed).generate_state(count))
