"""One game in Python, step by step: frames, rewards, lives and the console's memory at the same moment."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.environments.atari.protocol import AtariProtocol
from backbench.benchmarks.environments.atari.screen import HEIGHT, WIDTH, Screens, area_resize
from backbench.errors import UserError, suggest

SEED = 1  # where a reset names no seed; only sticky actions draw on it


class Emulator:
    """One game under a protocol.

    Attributes:
        n_actions: size of the set of actions, which are numbered from 0 in ``action_names``' order.
    """

    def __init__(self, game: str, protocol: AtariProtocol | None = None, pixels: bool = True) -> None:
        """Load a game by its name in lower case; without ``pixels`` no screens are kept, which saves a third.

        Raises:
            UserError: no such game, or no emulator.
        """
        self.protocol = AtariProtocol() if protocol is None else protocol
        self.pixels = pixels
        self._rom = _rom(game)
        self._ale = _console(self._rom, self.protocol, SEED)
        self._seed = SEED
        self._actions = _actions(self._ale, self.protocol)
        self.n_actions = len(self._actions)
        self._screens = np.zeros((2, HEIGHT, WIDTH), dtype=np.uint8)
        self._lives = 0

    def reset(self, noops: int, seed: int | None = None) -> None:
        """Begin a new game with ``noops`` frames without action; under ``fire_reset`` the first one presses FIRE.

        With a ``seed``, from 1 on, sticky actions are drawn anew from it; it takes longer.
        """
        from ale_py import Action

        if seed is not None:
            # The emulator takes a new seed only when it loads a game.
            self._ale.setInt("random_seed", seed)
            self._ale.loadROM(self._rom)
        self._ale.reset_game()
        fire = self.protocol.fire_reset and Action.FIRE in self._ale.getMinimalActionSet()
        if fire:
            self._ale.act(Action.FIRE)
        for _ in range(noops - fire):
            self._ale.act(Action.NOOP)
        self._lives = self._ale.lives()
        self._look(1)
        self._screens[0] = 0

    def step(self, action: int) -> tuple[float, bool]:
        """Repeat an action for the protocol's frames, or until the game is over.

        Returns:
            Raw reward, and whether the episode has ended. The longest episode is the caller's business.

        Raises:
            ValueError: no such action.
        """
        if not 0 <= action < self.n_actions:
            raise ValueError(f"action {action} is outside the game's set, 0 to {self.n_actions - 1}")
        chosen, reward, last = self._actions[action], 0, self.protocol.frame_skip - 1
        for frame in range(last + 1):
            reward += self._ale.act(chosen)
            over = self._ale.game_over() or (self.protocol.episodic_life and self._ale.lives() < self._lives)
            if over:
                break  # as in the vector environment, the screen on which an episode ends is not looked at
            if frame >= last - 1:
                self._look(frame - last + 1)
        if self.protocol.max_pool:
            np.maximum(self._screens[0], self._screens[1], out=self._screens[1])
        self._lives = self._ale.lives()
        return float(reward), over

    def _look(self, place: int) -> None:
        if self.pixels:
            self._ale.getScreenGrayscale(self._screens[place])

    def screen(self) -> Screens:
        """The grey screen that ``frame`` is made from: uint8 (210, 160)."""
        screen: Screens = self._screens[1].copy()
        return screen

    def frame(self) -> Screens:
        """What the agent sees of this step: uint8 (84, 84); the one before once more where a game ends early."""
        frame: Screens = area_resize(self._screens[1:])[0]
        return frame

    def ram(self) -> NDArray[np.uint8]:
        """The console's memory: uint8 (128,)."""
        memory: NDArray[np.uint8] = self._ale.getRAM()
        return memory

    @property
    def lives(self) -> int:
        """Lives left; 0 in games without."""
        return self._lives


def action_names(game: str, protocol: AtariProtocol) -> list[str]:
    """What each numbered action does, such as NOOP, FIRE, RIGHT, LEFT.

    Raises:
        UserError: no such game, or no emulator.
    """
    return list(_action_names(game, protocol.full_actions))


@cache
def _action_names(game: str, full: bool) -> tuple[str, ...]:
    protocol = AtariProtocol(full_actions=full)
    return tuple(action.name for action in _actions(_console(_rom(game), protocol, SEED), protocol))


def quiet() -> None:
    """Keep the emulator's greetings and warnings off the terminal, for all games of this process."""
    try:
        from ale_py import ALEInterface, LoggerMode
    except ImportError as error:
        raise UserError("Atari games need the package ale_py: pip install ale-py") from error
    ALEInterface.setLoggerMode(LoggerMode.Error)


def _rom(game: str) -> Any:
    quiet()
    from ale_py import roms

    known = sorted(roms.get_all_rom_ids())
    if game not in known:
        raise UserError(f"unknown game '{game}'{suggest(game, known)}")
    return roms.get_rom_path(game)


def _console(rom: Any, protocol: AtariProtocol, seed: int) -> Any:
    from ale_py import ALEInterface

    ale = ALEInterface()
    ale.setInt("random_seed", seed)
    ale.setFloat("repeat_action_probability", protocol.sticky)
    ale.loadROM(rom)
    return ale


def _actions(ale: Any, protocol: AtariProtocol) -> list[Any]:
    return list(ale.getLegalActionSet() if protocol.full_actions else ale.getMinimalActionSet())
