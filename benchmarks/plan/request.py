"""What somebody asked to run, before it becomes cells."""

from dataclasses import dataclass


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
