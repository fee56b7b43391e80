"""How an Atari game is played: the settings that every score and every data set depends on."""

from dataclasses import dataclass

import numpy as np

from backbench.errors import UserError, require, suggest

GAMES = ("breakout", "qbert", "pong", "seaquest")
STACK, MOST_STACKED = 4, 16  # frames in a state, the newest one last


@dataclass(frozen=True)
class AtariProtocol:
    """Frames, starts and ends of a game. Conventions and names follow Machado et al. 2018 (arXiv:1709.06009)."""

    stack: int = STACK  # frames in a state
    frame_skip: int = 4  # frames that an action is repeated for; the agent sees one state a step
    max_pool: bool = True  # a state's frame is the pixelwise maximum of the last two screens, since sprites flicker
    # An episode begins with 0 to noop_max - 1 frames without action, drawn uniformly: the only randomness of a start.
    noop_max: int = 30
    fire_reset: bool = False  # the first of those frames presses FIRE, which starts some games; at least one then
    sticky: float = 0.0  # probability that a frame repeats the action of the frame before instead of the new one
    episodic_life: bool = False  # an episode ends with a life instead of with the game
    full_actions: bool = False  # all 18 actions of the console instead of those that have an effect in the game
    max_frames: int = 108_000  # longest episode, in frames

    def __post_init__(self) -> None:
        for name in ("stack", "frame_skip", "noop_max"):
            require(getattr(self, name) >= 1, f"atari.{name}={getattr(self, name)}: give at least 1")
        require(self.stack <= MOST_STACKED, f"atari.stack={self.stack}: give at most {MOST_STACKED}")
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
        """Frames without action at the start of a behaviour policy's episode: a multiple of ``unit``, above 0.

        A policy that reads memory learns far faster if all games are in phase, which a unit of ``frame_skip`` ensures.
        """
        return unit * int(rng.integers(1, max(1, (self.noop_max - 1) // unit) + 1))


def game_of(env_id: str) -> str:
    """The game's name, ``breakout`` for ``ALE/Breakout-v5``; ``UserError`` without such a game or an emulator."""
    try:
        from ale_py import roms
    except ImportError as error:
        raise UserError("Atari games need the package ale_py: pip install ale-py") from error
    name, known = env_id.removeprefix("ALE/").rsplit("-v", 1)[0], sorted(roms.get_all_rom_ids())
    game = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
    require(game in known, f"unknown game '{env_id}'{suggest(game, known)}")
    return game
