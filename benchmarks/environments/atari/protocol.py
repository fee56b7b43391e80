"""How a game is played: the settings that every score and every data set of a game depends on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backbench.errors import UserError, require, suggest

GAMES = ("breakout", "qbert", "pong", "seaquest")
STACK = 4  # frames in a state, the newest one last


@dataclass(frozen=True)
class AtariProtocol:
    """Frames, starts and ends of a game; conventions and their names follow Machado et al. 2018 (arXiv:1709.06009)."""

    # Frames that an action is repeated for; the agent sees one state a step.
    frame_skip: int = 4
    # A state's frame is the pixelwise maximum of the last two screens, since sprites flicker.
    max_pool: bool = True
    # An episode begins with 0 to noop_max - 1 frames without action, drawn evenly: the only chance in a game.
    noop_max: int = 30
    # The first of those frames, and there is one then, presses FIRE, which starts some games.
    fire_reset: bool = False
    # Probability that a frame repeats the action of the frame before instead of taking the new one.
    sticky: float = 0.0
    # An episode ends with a life instead of with the game.
    episodic_life: bool = False
    # All 18 actions of the console instead of those that do something in the game.
    full_actions: bool = False
    # Longest episode, in frames.
    max_frames: int = 108_000

    def __post_init__(self) -> None:
        for name in ("frame_skip", "noop_max"):
            require(getattr(self, name) >= 1, f"atari.{name}={getattr(self, name)}: give at least 1")
        require(0 <= self.sticky < 1, f"atari.sticky={self.sticky}: give a number in [0, 1)")
        require(
            self.max_frames >= self.frame_skip,
            f"atari.max_frames={self.max_frames}: give at least frame_skip, {self.frame_skip}",
        )

    @property
    def max_steps(self) -> int:
        """Longest episode, in steps of the agent."""
        return self.max_frames // self.frame_skip

    def draw_noops(self, rng: np.random.Generator, unit: int = 1) -> int:
        """How many frames without action a behaviour policy's episode begins with: some multiple of ``unit``, above 0.

        A memory policy learns far faster where all games are in step with it, that is with a unit of ``frame_skip``.
        """
        return unit * int(rng.integers(1, max(1, (self.noop_max - 1) // unit) + 1))


def game_of(env_id: str) -> str:
    """The game's name in lower case with underscores, such as ``breakout`` for ``ALE/Breakout-v5``.

    Raises:
        UserError: no such game, or no emulator to look it up in.
    """
    name = env_id.removeprefix("ALE/").rsplit("-v", 1)[0]
    game = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
    known = _known()
    if game not in known:
        raise UserError(f"unknown game '{env_id}'{suggest(game, known)}")
    return game


def _known() -> list[str]:
    try:
        from ale_py import roms
    except ImportError as error:
        raise UserError("Atari games need the package ale_py: pip install ale-py") from error
    return sorted(roms.get_all_rom_ids())
