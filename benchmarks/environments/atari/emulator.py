"""One Atari game, step by step: frames, rewards, lives and the console's memory at the same moment."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.environments.atari.protocol import AtariProtocol, game_of
from backbench.benchmarks.environments.atari.screen import HEIGHT, WIDTH, Screens, area_resize

SEED = 1  # for a reset without a seed; only sticky actions use it


class Emulator:
    """One game under a protocol."""

    def __init__(self, game: str, protocol: AtariProtocol | None = None, pixels: bool = True) -> None:
        """Load a game; ``UserError`` as for ``game_of``. Without ``pixels`` it keeps no screens: a third faster."""
        self.protocol = AtariProtocol() if protocol is None else protocol
        self.pixels = pixels
        self._ale, self._rom, self._actions = _load(game, self.protocol)
        self.n_actions = len(self._actions)  # in the order of ``action_names``
        self._screens = np.zeros((2, HEIGHT, WIDTH), dtype=np.uint8)
        self.lives = 0  # lives left; 0 in games without lives

    def reset(self, noops: int, seed: int | None = None) -> None:
        """Begin a new game with ``noops`` frames without action. Under ``fire_reset`` the first one presses FIRE.

        A ``seed`` of at least 1 seeds the sticky actions, and takes longer.
        """
        from ale_py import Action

        if seed is not None:  # the emulator takes a new one only when it loads a game
            self._ale.setInt("random_seed", seed)
            self._ale.loadROM(self._rom)
        self._ale.reset_game()
        fire = self.protocol.fire_reset and Action.FIRE in self._ale.getMinimalActionSet()
        if fire:
            self._ale.act(Action.FIRE)
        for _ in range(noops - fire):
            self._ale.act(Action.NOOP)
        self.lives = self._ale.lives()
        if self.pixels:
            self._ale.getScreenGrayscale(self._screens[1])
        self._screens[0] = 0

    def step(self, action: int) -> tuple[float, bool]:
        """Repeat an action for the protocol's frames; the raw reward, and whether the episode has ended.

        The caller limits the episode's length. Raises ``ValueError`` for an action out of range.
        """
        if not 0 <= action < self.n_actions:
            raise ValueError(f"action {action} is outside the game's set, 0 to {self.n_actions - 1}")
        chosen, reward, last = self._actions[action], 0, self.protocol.frame_skip - 1
        for frame in range(last + 1):
            reward += self._ale.act(chosen)
            over = self._ale.game_over() or (self.protocol.episodic_life and self._ale.lives() < self.lives)
            if over:
                break  # as in the vector environment, the screen on which an episode ends is unused
            if self.pixels and frame >= last - 1:
                self._ale.getScreenGrayscale(self._screens[frame - last + 1])
        if self.protocol.max_pool:
            np.maximum(self._screens[0], self._screens[1], out=self._screens[1])
        self.lives = self._ale.lives()
        return float(reward), over

    def frame(self) -> Screens:
        """What the agent sees of this step: uint8 (84, 84). If the game ended early, the frame before."""
        frame: Screens = area_resize(self._screens[1:])[0]
        return frame

    def ram(self) -> NDArray[np.uint8]:
        """The console's memory: uint8 (128,)."""
        memory: NDArray[np.uint8] = self._ale.getRAM()
        return memory


@cache
def action_names(game: str, protocol: AtariProtocol) -> tuple[str, ...]:
    """Names of the discrete actions, such as NOOP, FIRE, RIGHT, LEFT; ``UserError`` as for ``Emulator``."""
    return tuple(action.name for action in _load(game, protocol)[2])


def _load(game: str, protocol: AtariProtocol) -> tuple[Any, Any, list[Any]]:
    """A console with a game in it, the game's file, and its actions."""
    known = game_of(game)
    from ale_py import ALEInterface, LoggerMode, roms

    ALEInterface.setLoggerMode(LoggerMode.Error)  # no greetings and warnings, for all games of this process
    ale, rom = ALEInterface(), roms.get_rom_path(known)
    ale.setInt("random_seed", SEED)
    ale.setFloat("repeat_action_probability", protocol.sticky)
    ale.loadROM(rom)
    return ale, rom, list(ale.getLegalActionSet() if protocol.full_actions else ale.getMinimalActionSet())
