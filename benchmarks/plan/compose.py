"""Hydra at the edge: presets, suites and overrides become ``Cell`` objects; mistakes become one line."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from backbench.backbones import BACKBONES
from backbench.backbones.options import make_options
from backbench.benchmarks.environments.atari.protocol import AtariProtocol
from backbench.benchmarks.plan import match, suites
from backbench.benchmarks.plan.request import Request
from backbench.benchmarks.plan.settings import Cell, DataConfig, EvalConfig, ModelConfig, TrainConfig, jsonable
from backbench.errors import UserError, suggest

if TYPE_CHECKING:
    from backbench.benchmarks.plan.suite_file import Suite

GROUPS: dict[str, type] = {
    "model": ModelConfig, "data": DataConfig, "train": TrainConfig, "eval": EvalConfig, "atari": AtariProtocol
}  # fmt: skip
FLAGS = {"backbone": "--backbone", "suite": "--suite", "preset": "--preset", "seed": "--seeds", "task": "--task"}


PRESETS = suites.FOLDER.parent / "preset"


def presets() -> list[str]:
    """Names of the presets there are."""
    return sorted(p.stem for p in PRESETS.glob("*.yaml"))


def _preset_file(preset: str, table: Suite) -> str:
    """A suite, or its kind of environments, may have settings of its own for a preset, in a folder of its name."""
    folders = (table.name, *table.kind.presets)
    return next((f"{name}/{preset}" for name in folders if (PRESETS / name / f"{preset}.yaml").is_file()), preset)


@cache
def _special(preset_file: str) -> dict[str, dict[str, list[str]]]:
    """What a preset sets for some ``tasks`` or ``backbones`` only: overrides that the user's come after."""
    import yaml

    special = yaml.safe_load((PRESETS / f"{preset_file}.yaml").read_text()).get("special", {})
    return {kind: dict(special.get(kind, {})) for kind in ("tasks", "backbones")}


def source_of(suite: str, preset: str, source: str | None = None, overrides: Sequence[str] = ()) -> str:
    """The data source that ``cells`` would take, found without composing anything; the first of several."""
    import yaml

    given = [text.partition("=")[2].split(",")[0] for text in overrides if text.startswith("data.source=")]
    table = suites.table(suite)
    if preset not in presets():
        raise UserError(f"unknown preset '{preset}'{suggest(preset, presets())}")
    of_preset = yaml.safe_load((PRESETS / f"{_preset_file(preset, table)}.yaml").read_text())["data"]["source"]
    return source or (given[-1] if given else table.source or of_preset)


def cells(
    backbones: Sequence[str],
    suite: str,
    preset: str,
    seeds: Sequence[int],
    only: Sequence[str] = (),
    source: str | None = None,
    overrides: Sequence[str] = (),
) -> list[Cell]:
    """The grid: backbones x variants x tasks x seeds, in the order in which it should run.

    Args:
        backbones: registered names or ``package.module:Class``.
        suite, preset: names; a suite may be the path of a file.
        seeds: of training.
        only: names of tasks, when not the whole suite.
        source: data source instead of the suite's or the preset's.
        overrides: Hydra overrides, ``key=value``; a comma list makes a variant of each value. ``match=params`` or
            ``match=params:BACKBONE`` changes the width of the others, see ``matching``.

    Raises:
        UserError: anything unknown or out of range, with the closest name.
    """
    if preset not in presets():
        raise UserError(f"unknown preset '{preset}'{suggest(preset, presets())}")
    table = suites.table(suite)
    chosen = list(only) or list(table.tasks)
    for name in chosen:
        if name not in table.tasks:
            raise UserError(f"unknown task '{name}' of suite '{table.name}'{suggest(name, list(table.tasks))}")
    plain, reference = match.asked(overrides, backbones)
    if reference is None:
        return _grid(backbones, suite, preset, seeds, chosen, source, plain)
    # The width is that of the whole suite, whatever part of it is run.
    source_ = source_of(suite, preset, source, plain)
    names = [name for name, row in table.tasks.items() if name in chosen or source_ in row.sources]
    whole = [*([] if reference in backbones else [reference]), *backbones]
    made = match.match(_grid(whole, suite, preset, seeds, names, source, plain), reference)
    return [cell for cell in made if cell.backbone in backbones and cell.task.name in chosen]


def _grid(
    backbones: Sequence[str],
    suite: str,
    preset: str,
    seeds: Sequence[int],
    chosen: Sequence[str],
    source: str | None,
    overrides: Sequence[str],
) -> list[Cell]:
    """``cells`` with every backbone at the width of its settings."""
    table = suites.table(suite)
    if not any(text.startswith("data.source=") for text in overrides):
        source = source or table.source
    made = []
    file = _preset_file(preset, table)
    special = _special(file)
    for backbone in backbones:
        cls = BACKBONES.get(backbone)
        composed: dict[Any, dict[str, Any]] = {}
        for variant, name in itertools.product(_variants(overrides), chosen):
            own = (*special["backbones"].get(backbone, ()), *special["tasks"].get(name, ()))
            if (variant, own) not in composed:
                composed[variant, own] = _compose(file, backbone, make_options(cls), own, variant)
            content = composed[variant, own]
            if source:
                content["data"]["source"] = source
            parts: dict[str, Any] = {group: cls_(**_tuples(content[group])) for group, cls_ in GROUPS.items()}
            options = jsonable(dataclasses.asdict(make_options(cls, content["backbone"])))
            task = suites.resolve(suite, name, parts["data"].source, parts["data"].rewards.replace("auto", ""))
            task = _sized(task, parts["data"])
            _refuse_unused(variant, task)
            parts["atari"] = task.kind.protocol(parts["atari"])
            made += [
                Cell(backbone, task, preset, seed, options, variant=" ".join(sorted(variant)), **parts)
                for seed in seeds
            ]
    if len({cell.key for cell in made}) != len(made):
        raise UserError("the same cell was asked for twice: look for a repeated backbone, seed or value")
    return made


def _refuse_unused(overrides: Sequence[str], task: suites.Task) -> None:
    """A row would be named after a setting that changes nothing."""
    for text in overrides:
        # For user suites we only know later, in the cell, whether actions are discrete.
        unknown = text.startswith("eval.temperature=") and task.suite_tasks
        if text.startswith(task.kind.unused_settings) and not unknown:
            raise UserError(f"override '{text}': suite '{task.suite}' has no Atari games; remove it")


def _sized(task: suites.Task, data: DataConfig) -> suites.Task:
    from backbench.benchmarks.data.sources import SOURCES

    return dataclasses.replace(task, data_id=SOURCES.get(data.source).sized(task.data_id, data.steps))


def plan(request: Request) -> list[Cell]:
    """The cells of a request, in the order in which they should run."""
    return cells(
        request.backbones,
        request.suite,
        request.preset,
        request.seeds,
        request.tasks,
        request.source,
        request.overrides,
    )


def reach(request: Request) -> None:
    """Say within two seconds, before torch is imported, that a data set is absent and its source cannot be reached."""
    from backbench.benchmarks.data import store
    from backbench.benchmarks.data.sources import SOURCES

    source = source_of(request.suite, request.preset, request.source, request.overrides)
    rows = suites.table(request.suite).tasks
    for name in request.tasks or rows:
        chosen = rows[name].sources.get(source) if name in rows else None  # ``plan`` reports unknown names
        if chosen and not store.exists(chosen.data_id):
            SOURCES.get(source).reach(chosen.data_id)
            return


def check_models(made: Sequence[Cell]) -> None:
    """Build each model once, without memory: a width that does not fit the heads fails now, not in a cell.

    Anything but a ``UserError`` says nothing yet (not all code can do without memory): the cell will see.
    """
    import torch

    from backbench.benchmarks.plan.assemble import make_backbone

    seen = set()
    for cell in made:
        shape = (cell.backbone, repr(cell.options), cell.model)
        if shape not in seen:
            seen.add(shape)
            try:
                with torch.device("meta"):
                    make_backbone(cell)
            except UserError:
                raise
            except Exception:
                continue


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def _variants(overrides: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Every combination of the values in comma lists."""
    if not overrides:
        yield ()
        return
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    choices: list[list[str]] = []
    for text in overrides:
        try:
            (parsed,) = OverridesParser.create().parse_overrides([text])
            key = parsed.get_key_element()
            if key in FLAGS:
                raise UserError(f"override '{text}': use {FLAGS[key]} for it")
            if parsed.is_sweep_override():
                choices.append([f"{key}={value}" for value in parsed.sweep_string_iterator()])
            else:
                choices.append([text])
        except HydraException as error:
            raise UserError(f"override '{text}': {_first_line(error)}; write key=value") from error
    yield from itertools.product(*choices)


def _compose(
    preset_file: str, backbone: str, options: Any, special: Sequence[str], overrides: Sequence[str]
) -> dict[str, Any]:
    """The settings of a preset with the overrides of its own for this task and backbone, then the user's."""
    from hydra import compose, initialize_config_module
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    store = ConfigStore.instance()
    store.store(name="schema", node={name: _thawed(group) for name, group in GROUPS.items()})
    # A plug-in needs no YAML: its options are the schema. Their types are checked by make_options.
    store.store(group="backbone", name="chosen", node=jsonable(dataclasses.asdict(options)))
    groups = [f"preset={preset_file}"]
    with initialize_config_module("backbench.configs", version_base="1.3"):
        known = _leaves(OmegaConf.to_container(compose("root", overrides=groups)))
        for text in overrides:
            key = text.split("=", 1)[0].lstrip("+~")
            if key not in known:
                raise UserError(f"unknown override key '{key}' for backbone '{backbone}'{_meant(key, known)}")
            if "=" not in text or text[0] in "+~":
                raise UserError(f"override '{text}': write {key}=value")
        try:
            content = compose("root", overrides=[*groups, *special, *overrides])
        except HydraException as error:
            cause = error.__cause__ or error
            raise UserError(f"override {' '.join(overrides)}: {_first_line(cause)}") from error
    resolved = OmegaConf.to_container(content, resolve=True)
    assert isinstance(resolved, dict)
    return {str(k): v for k, v in resolved.items()}


def _thawed(group: type) -> Any:
    """A structured config of a frozen dataclass that presets and overrides may still write to."""
    from omegaconf import OmegaConf

    node = OmegaConf.structured(group)
    node._set_flag("readonly", None)
    return node


def _leaves(content: Any, prefix: str = "") -> list[str]:
    """Dotted keys that an override may set."""
    keys = []
    for key, value in content.items():
        path = f"{prefix}{key}"
        if path == "special":
            continue
        keys += _leaves(value, f"{path}.") if isinstance(value, dict) else [path]
    return keys


def _meant(key: str, known: Sequence[str]) -> str:
    """What a key that is unknown may mean: ``lr`` is ``train.lr``."""
    group, dot, name = key.rpartition(".")
    last = {k.rpartition(".")[2]: k for k in reversed(known)}
    close = difflib.get_close_matches(name, last, n=1, cutoff=0.8)
    if not dot and close:
        same = [k for k in known if k.rpartition(".")[2] == close[0]]
        return "; did you mean " + " or ".join(f"'{k}'" for k in same) + "?"
    return suggest(key, [k for k in known if k.split(".")[0] == group] or known)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
