"""What somebody asked to run, before it becomes cells."""

from __future__ import annotations

import re
from dataclasses import dataclass

from backbench.errors import UserError
from backbench.leaderboard.record.identity import FLOPS


@dataclass(frozen=True)
class Request:
    """The words of ``bench run`` that decide which cells there are.

    Attributes:
        backbones: registered names or ``package.module:Class``.
        suite: a name, or the path of a YAML file.
        preset: a name.
        tasks: of the suite; empty for all.
        seeds: of training.
        max_cells: most cells that the grid may have; a slip such as ``--seeds 20240611`` asks for millions.
        source: data source instead of the suite's or the preset's.
        overrides: Hydra overrides, ``key=value``. A comma list makes a variant of each value. ``match=params`` or
            ``match=params:BACKBONE`` changes the width of the others, see ``match``. ``tune=TAG`` says that the others
            were chosen by a tuning, see ``tune``.
        declared: settings that come before the overrides and name no variant, as the suite's own do.
        mark: a word that every variant gets, and that is no setting: ``tune=TAG`` or ``trial=TAG``.
    """

    backbones: tuple[str, ...]
    suite: str = "d4rl"
    preset: str = "quick"
    tasks: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    source: str | None = None
    overrides: tuple[str, ...] = ()
    declared: tuple[str, ...] = ()
    mark: str = ""
    max_cells: int = 10_000


@dataclass(frozen=True)
class Budget:
    """What each backbone may try: a number of settings, or FLOPs of training."""

    count: int = 0
    flops: float = 0.0

    @classmethod
    def of(cls, tune: int | str) -> Budget:
        """From a word such as ``20`` or ``2e15flops``; nothing of it for 0 or an empty word. UserError: it is none."""
        word = str(tune)
        number = re.fullmatch(r"(?P<count>\d{1,6})|(?P<flops>\d+(\.\d+)?([eE]\+?\d{1,2})?)" + FLOPS, word)
        if number is None and word:
            raise UserError(f"--tune {word[:60]}: give a number of settings, or FLOPs of training such as 2e15{FLOPS}")
        found = cls(int(number["count"] or 0), float(f"{float(number['flops'] or 0):.2e}")) if number else cls()
        if found.flops and not 1e6 <= found.flops < 1e24:
            raise UserError(f"--tune {word}: give FLOPs from 1e6{FLOPS} to 9e23{FLOPS}")
        return found

    @property
    def word(self) -> str:
        """As `of` reads it, and as tags have it."""
        return f"{self.flops:.3g}{FLOPS}".replace("+", "").replace("e0", "e") if self.flops else str(self.count)

    def __bool__(self) -> bool:
        return self.count > 0 or self.flops > 0
