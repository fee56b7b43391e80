"""From a request to cells: Hydra merges presets, suites and overrides. A mistake becomes one line."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from backbench import reading
from backbench.backbones import BACKBONES
from backbench.backbones.options import make_options
from backbench.benchmarks.environments.atari.protocol import AtariProtocol
from backbench.benchmarks.plan import match, overrides, suites
from backbench.benchmarks.plan.request import Request
from backbench.benchmarks.plan.settings import Cell, DataConfig, EvalConfig, ModelConfig, TrainConfig, jsonable
from backbench.configs import PRESETS
from backbench.errors import UserError, suggest
from backbench.leaderboard.record.identity import SELECTION, TAG, TUNE
from backbench.text import count

if TYPE_CHECKING:
    from backbench.backbones.contract import Causal
    from backbench.benchmarks.plan.suite_file import Suite

GROUPS: dict[str, type] = {
    "model": ModelConfig, "data": DataConfig, "train": TrainConfig, "eval": EvalConfig, "atari": AtariProtocol
}  # fmt: skip


def presets() -> list[str]:
    """Names of the presets."""
    return sorted(p.stem for p in PRESETS.glob("*.yaml"))


@cache
def _preset(preset: str, suite: str, kinds: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """Hydra's name of a preset, and its content. A suite or a kind of environment may have its own, in a folder.

    A kind with a folder takes presets from there only: those for Gym do not fit.
    """
    if preset not in presets():
        raise UserError(f"unknown preset '{preset}'{suggest(preset, presets())}")
    own = [folder for folder in (suite, *kinds) if (PRESETS / folder / f"{preset}.yaml").is_file()]
    if kinds and not own:
        there = ", ".join(sorted(path.stem for path in (PRESETS / kinds[0]).glob("*.yaml")))
        raise UserError(f"preset '{preset}' has no settings for suite '{suite}'; there is: {there}")
    name = f"{own[0]}/{preset}" if own else preset
    return name, reading.read_yaml(PRESETS / f"{name}.yaml")


def _preset_of(request: Request, table: Suite) -> tuple[str, dict[str, Any]]:
    return _preset(request.preset, table.presets or table.name, table.kind.presets)


def source_of(request: Request, table: Suite) -> str:
    """The data source of a request, or the first of several, found without composing anything."""
    given = [text.partition("=")[2].split(",")[0] for text in request.overrides if text.startswith("data.source=")]
    _, content = _preset_of(request, table)
    source: str = request.source or (given[-1] if given else table.source or content["data"]["source"])
    return source


def reach(request: Request) -> None:
    """Say within two seconds, before torch is imported, that a data set is absent and its source cannot be reached."""
    from backbench.benchmarks.data import store
    from backbench.benchmarks.data.sources import SOURCES

    table = suites.table(request.suite)
    source = source_of(request, table)
    for name in request.tasks or table.tasks:
        chosen = table.tasks[name].sources.get(source) if name in table.tasks else None  # ``plan`` reports it
        if chosen and not store.exists(chosen.data_id):
            SOURCES.get(source).reach(chosen.data_id)
            return


def plan(request: Request) -> list[Cell]:
    """The cells of a request in the order in which they should run: backbones x variants x tasks x seeds.

    Raises:
        UserError: anything unknown or out of range, with the closest name.
    """
    table = suites.table(request.suite)
    _preset_of(request, table)
    chosen = request.tasks or tuple(table.tasks)
    for name in chosen:
        if name not in table.tasks:
            raise UserError(f"unknown task '{name}' of suite '{table.name}'{suggest(name, list(table.tasks))}")
    overrides.check(request.overrides)
    request = _marked(request)
    plain, reference = match.asked(request.overrides, request.backbones)
    request = dataclasses.replace(request, tasks=chosen, overrides=tuple(plain))
    if reference is None:
        return _with_mark(_grid(request, table), request.mark)
    # The width is that of the complete suite, whatever part of it runs.
    source, backbones = source_of(request, table), request.backbones
    tasks = tuple(name for name, row in table.tasks.items() if name in chosen or source in row.sources)
    every = backbones if reference in backbones else (reference, *backbones)
    made = match.match(_grid(dataclasses.replace(request, backbones=every, tasks=tasks), table), reference)
    kept = [cell for cell in made if cell.backbone in backbones and cell.task.name in chosen]
    return _with_mark(kept, request.mark)


def _marked(request: Request) -> Request:
    """The request with ``tune=TAG`` as its mark instead of an override."""
    found = next((text for text in request.overrides if text.startswith(TUNE)), None)
    if found is None:
        return request
    if request.mark or not TAG.fullmatch(found.removeprefix(TUNE)):
        raise UserError(f"override '{overrides.short(found)}': give the word of a tuned row, or --tune N")
    if SELECTION in request.seeds:
        raise UserError(f"--seeds: {SELECTION} is the seed of trials; give another")
    plain = tuple(text for text in request.overrides if text != found)
    return dataclasses.replace(request, overrides=plain, mark=found)


def _with_mark(cells: list[Cell], mark: str) -> list[Cell]:
    return [dataclasses.replace(cell, variant=f"{cell.variant} {mark}".strip()) for cell in cells]


def _grid(request: Request, table: Suite) -> list[Cell]:
    """The cells with every backbone at the width of its settings."""
    source = request.source
    if not any(text.startswith("data.source=") for text in request.overrides):
        source = source or table.source
    name, content = _preset_of(request, table)
    variants = _variants(request)
    special = {kind: content.get("special", {}).get(kind, {}) for kind in ("backbones", "tasks")}
    # A preset may have the last word on what suites declare: smoke takes seconds everywhere.
    last = content.get("special", {}).get("suites", ())
    declared = {task: (*table.settings, *table.tasks[task].settings, *request.declared) for task in request.tasks}
    made = []
    for backbone in request.backbones:
        cls = BACKBONES.get(backbone)
        composed: dict[Any, tuple[tuple[str, ...], dict[str, Any]]] = {}
        for asked, task_name in itertools.product(variants, request.tasks):
            own = (*special["backbones"].get(backbone, ()), *special["tasks"].get(task_name, ()))
            before = (*declared[task_name], *last)
            if (before, asked, own) not in composed:
                try:
                    composed[before, asked, own] = _deep_enough((name, backbone, cls), own, before, asked)
                except UserError as error:
                    _blame_suite(table, declared[task_name], (name, backbone, make_options(cls)), error)
                    raise
            variant, settings = composed[before, asked, own]
            if source:
                settings["data"]["source"] = source
            for group, of in GROUPS.items():
                overrides.require_numbers(settings[group], group, of)
            parts: dict[str, Any] = {group: of(**_tuples(settings[group])) for group, of in GROUPS.items()}
            task = _task(request.suite, task_name, parts["data"])
            _refuse_unused(variant, declared[task_name], task, parts["data"].source)
            parts["atari"] = task.kind.protocol(parts["atari"])
            if not any(text.startswith("eval.max_steps=") for text in variant):
                # The preset's limit is a cap: a task with shorter episodes keeps its own.
                limit = min(parts["eval"].max_steps, task.max_steps)
                parts["eval"] = dataclasses.replace(parts["eval"], max_steps=limit)
            parts["options"] = jsonable(dataclasses.asdict(make_options(cls, settings["backbone"])))
            said = " ".join(sorted(variant))
            made += [Cell(backbone, task, request.preset, seed, variant=said, **parts) for seed in request.seeds]
    if len({cell.key for cell in made}) != len(made):
        raise UserError("the same cell was asked for twice: look for a repeated backbone, seed or value")
    return made


def _deep_enough(
    of: tuple[str, str, type[Causal]], own: Sequence[str], before: Sequence[str], given: tuple[str, ...]
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The overrides ``given``, and the settings with them and with those ``before``. A hybrid gets a layer for each
    part, as an override that its row shows, unless there are enough or the number of layers is given."""
    preset, backbone, cls = of
    settings = _compose(preset, backbone, make_options(cls), own, (*before, *given))
    said = any(text.startswith("model.n_layers=") for text in (*before, *given))
    if said or settings["model"]["n_layers"] >= cls.least_layers:
        return given, settings
    given = (*given, f"model.n_layers={cls.least_layers}")
    return given, _compose(preset, backbone, make_options(cls), own, (*before, *given))


def _blame_suite(table: Suite, declared: tuple[str, ...], of: tuple[str, str, Any], error: UserError) -> None:
    """Raise ``UserError`` in the suite's name if its own settings alone are refused."""
    try:
        overrides.check(declared)
        _compose(*of, (), declared)
    except UserError as alone:
        raise UserError(f"suite '{table.name}': settings: {alone}") from error


def _variants(request: Request) -> list[tuple[str, ...]]:
    """Every combination of the values in comma lists. UserError if the grid has more cells than its limit."""
    choices = overrides.choices(request.overrides, request.max_cells)
    sizes = {
        "backbone": len(request.backbones), "task": len(request.tasks), "seed": len(request.seeds),
        "value": math.prod(map(len, choices)),
    }  # fmt: skip
    cells = math.prod(sizes.values())
    if cells > request.max_cells:
        grid = " x ".join(count(size, name) for name, size in sizes.items() if size > 1)
        raise UserError(
            f"{cells:,} cells or more ({grid}) are over the limit of {request.max_cells:,}; raise it with --max-cells "
            f"{cells}, or ask for less: one seed alone is --seeds 7-7"
        )
    return list(itertools.product(*choices))


def _task(suite: str, name: str, data: DataConfig) -> suites.Task:
    from backbench.benchmarks.data.sources import SOURCES

    task = suites.resolve(suite, name, data.source, data.rewards.replace("auto", ""))
    return dataclasses.replace(task, data_id=SOURCES.get(data.source).sized(task.data_id, data.steps))


def _refuse_unused(given: Sequence[str], declared: Sequence[str], task: suites.Task, source: str) -> None:
    """A row would be named after a setting that changes nothing."""
    from backbench.benchmarks.data.sources import SOURCES

    resizable = SOURCES.get(source).sized(task.data_id, 1) != task.data_id
    for text in given:
        # For user suites we only know later, in the cell, whether actions are discrete.
        name = text.partition("=")[0] + "="
        unknown = name == "eval.temperature=" and (task.suite_tasks or any(word.startswith(name) for word in declared))
        if text.startswith(task.kind.unused_settings) and not unknown:
            raise UserError(f"override '{text}': suite '{task.suite}' has no Atari games; remove it")
        if name == "data.steps=" and not resizable:
            raise UserError(f"override '{text}': data set {task.data_id!r} has one size; remove it")


_KNOWN: dict[tuple[str, str, str], list[str]] = {}  # preset, backbone, its default options -> keys of the settings


def check_models(made: Sequence[Cell]) -> None:
    """Build each model once, without memory: a width that does not fit the heads fails now, not in a cell.

    Only a ``UserError`` counts. Not all code can do without memory, so other errors wait for the cell.
    """
    import torch

    from backbench.benchmarks.plan.assemble import make_backbone

    for cell in {repr((cell.backbone, cell.options, cell.model)): cell for cell in made}.values():
        try:
            with torch.device("meta"):
                make_backbone(cell)
        except UserError:
            raise
        except Exception:
            continue


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def _compose(preset: str, backbone: str, options: Any, special: Sequence[str], given: Sequence[str]) -> dict[str, Any]:
    """The settings of a preset, with its own overrides for this task and backbone, then the user's."""
    from hydra import compose, initialize_config_module
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    store = ConfigStore.instance()
    store.store(name="schema", node={name: _writable(group) for name, group in GROUPS.items()})
    # A plug-in needs no YAML: its options are the schema. make_options checks their types.
    store.store(group="backbone", name="chosen", node=jsonable(dataclasses.asdict(options)))
    groups = [f"preset={preset}"]
    with initialize_config_module("backbench.configs", version_base="1.3"):
        if (of := (preset, backbone, repr(options))) not in _KNOWN:
            _KNOWN[of] = _leaves(OmegaConf.to_container(compose("root", overrides=groups)))
        known = _KNOWN[of]
        for text in given:
            key = text.split("=", 1)[0].lstrip("+~")
            if key not in known:
                raise UserError(f"unknown override key '{key}' for backbone '{backbone}'{_meant(key, known)}")
            if "=" not in text or text[0] in "+~":
                raise UserError(f"override '{text}': write {key}=value")
        try:
            content = compose("root", overrides=[*groups, *special, *given])
        except HydraException as error:
            raise overrides.refused(error, given, GROUPS) from error
    resolved: Any = OmegaConf.to_container(content, resolve=True)
    return {str(k): v for k, v in resolved.items()}


def _writable(group: type) -> Any:
    """A structured config of a frozen dataclass that presets and overrides may still write to."""
    from omegaconf import OmegaConf

    node = OmegaConf.structured(group)
    node._set_flag("readonly", None)
    return node


def _leaves(content: Any, prefix: str = "") -> list[str]:
    """Dotted keys that an override may set."""
    keys = []
    for key, value in content.items():
        if (path := f"{prefix}{key}") != "special":
            keys += _leaves(value, f"{path}.") if isinstance(value, dict) else [path]
    return keys


def _meant(key: str, known: Sequence[str]) -> str:
    """What an unknown key may mean: ``lr`` is ``train.lr``."""
    group, dot, name = key.rpartition(".")
    close = difflib.get_close_matches(name, [k.rpartition(".")[2] for k in known], n=1, cutoff=0.8)
    if not dot and close:
        return "; did you mean " + " or ".join(f"'{k}'" for k in known if k.endswith(f".{close[0]}")) + "?"
    same = [k for k in known if k.rpartition(".")[0] == group] or [k for k in known if k.split(".")[0] == group]
    near = difflib.get_close_matches(key, known, n=1)
    groups = ", ".join(dict.fromkeys(k.split(".")[0] for k in known))  # all keys would hide the hint
    return suggest(key, same) if same else (f"; did you mean '{near[0]}'?" if near else f"; groups: {groups}")
