"""Score random play of the Atari games, under the evaluation's protocol and from its starts.

Run ``python tools/random_play.py --episodes 30``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.environments.atari.kind import AtariBatch
from backbench.benchmarks.environments.atari.protocol import GAMES, AtariProtocol
from backbench.leaderboard.scores.normalise import normalise
from backbench.leaderboard.scores.statistics import interval


def play(game: str, episodes: int, seed: int, protocol: AtariProtocol) -> NDArray[np.float64]:
    """Raw returns (episodes,) of uniformly random actions."""
    starts = [int(s) for s in np.random.SeedSequence(seed).generate_state(episodes)]
    rngs = [np.random.default_rng([seed, number]) for number in range(episodes)]
    batch = AtariBatch(game, episodes, protocol)
    returns = np.zeros(episodes)
    try:
        batch.reset(starts)
        running = list(range(episodes))
        for _ in range(protocol.max_steps):
            actions = np.array([rngs[number].integers(batch.n_actions) for number in running])
            _, rewards, ended = batch.step(running, actions)
            returns[running] += rewards
            running = [number for number, over in zip(running, ended, strict=True) if not over]
            if not running:
                break
    finally:
        batch.close()
    return returns


def main(words: Sequence[str] | None = None) -> None:
    """Print one line a game: mean raw return, 95 % interval over episodes, gamer-normalised score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1000, help="eval.seed of the evaluation to compare with")
    args = parser.parse_args(words)
    for game in GAMES:
        returns = play(game, args.episodes, args.seed, AtariProtocol())
        mean = float(returns.mean())
        found = interval([mean], episodes=list(returns))
        around = f"({found.low:.1f}, {found.high:.1f})" if found is not None else ""
        print(f"{game:<10} {mean:8.1f} {around:<18} gamer-normalised {normalise('dt-gamer', game, mean):6.1f}")


if __name__ == "__main__":
    main()
