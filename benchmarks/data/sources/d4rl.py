"""Source ``d4rl``: the Gym sets of D4RL (Fu et al. 2020, arXiv:2004.07219), version 2, from their published files."""

import copy
import hashlib
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from backbench import reading
from backbench.benchmarks.data import store
from backbench.benchmarks.data.download import Folder, Remote, Terms, is_address, remote, unreachable
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.hdf5 import MOST
from backbench.benchmarks.data.sources import d4rl_hdf5
from backbench.benchmarks.data.sources.source import Pull, Source
from backbench.errors import suggest

PUBLIC = "http://rail.eecs.berkeley.edu/datasets/offline_rl/gym_mujoco_v2"
VARIABLE = "BACKBENCH_D4RL"  # an address or a folder that replaces PUBLIC
CACHE = Path(".cache", "d4rl")
ENVIRONMENTS = {  # Gymnasium id, width of an observation, width of an action
    "halfcheetah": ("HalfCheetah-v4", 17, 6), "hopper": ("Hopper-v4", 11, 3),
    "walker2d": ("Walker2d-v4", 17, 6), "ant": ("Ant-v4", 111, 8),
}  # fmt: skip
SETS = ("random", "medium", "expert", "medium-replay", "full-replay", "medium-expert")


class D4rl(Source):
    """Data sets that are downloaded as HDF5 files, one a set."""

    name = "d4rl"
    kind = "fetched"
    licence = "CC BY 4.0"
    namespaces = ("d4rl",)
    default_names = ("d4rl",)

    def ids(self) -> list[str]:
        return [f"d4rl/{environment}/{kind}-v2" for environment in ENVIRONMENTS for kind in SETS]

    def command(self, data_id: str) -> str:
        return f"bench data pull d4rl {_short(data_id)}"

    def resolve(self, name: str, how: Pull, known: Iterable[str]) -> str:
        short = {_short(id_): id_ for id_ in self.ids()}
        if name in short.values():
            return name
        if name not in short:
            raise DataError(f"source 'd4rl' has no data set, task or suite '{name}'{suggest(name, short)}")
        return short[name]

    def reach(self, data_id: str) -> None:
        location = os.environ.get(VARIABLE) or PUBLIC
        if is_address(location, VARIABLE) and (problem := unreachable(location)):
            raise DataError(f"no network ({problem}): {_advice(data_id)}")

    def fetch(self, data_id: str, how: Pull) -> None:
        """See ``Source.fetch``. ``how.location`` overrides ``BACKBENCH_D4RL``, which overrides the public address."""
        file = file_name(data_id)
        environment, observation, action = ENVIRONMENTS[data_id.split("/")[1]]
        with _files(data_id, how) as files:
            with files.open(file) as path:
                origin: dict[str, Any] = {"file_sha256": _sha256(path), "file_bytes": path.stat().st_size}
                episodes = d4rl_hdf5.read(path, observation, action)
            for line in episodes.warnings:
                how.report(f"warning: {line}")
            if episodes.dropped:
                how.report(f"{file}: skipped the last {episodes.dropped:,} steps, an incomplete episode")
            if not files.local:
                origin["address"] = f"{files.where}/{file}"
            if episodes.discontinuities:
                origin["discontinuities"] = episodes.discontinuities
            origin |= {
                "source": "d4rl",
                "file": file,
                "dropped_steps": episodes.dropped,
                "final_observation": "repeated" if episodes.discontinuities is None else "recorded",
                "description": f"D4RL's {Path(file).stem}, as published; whole episodes only",
                "licence": self.licence,
                "citation": "Fu, Kumar, Nachum, Tucker, Levine: D4RL: Datasets for Deep Data-Driven Reinforcement "
                "Learning (2020), arXiv:2004.07219",
            }
            store.write(data_id, episodes, _spec(environment), origin)
            with files.open(file, once=True):  # removed only now: a failed write must not cost a second download
                pass


SOURCE = D4rl()


def file_name(data_id: str) -> str:
    """The name of a set's published file. DataError for an unknown id."""
    if data_id not in SOURCE.ids():
        raise DataError(f"d4rl: no data set '{data_id}'{suggest(data_id, SOURCE.ids())}")
    _, environment, kind = data_id.split("/")
    return f"{environment}_{kind.removesuffix('-v2').replace('-', '_')}-v2.hdf5"


def _short(data_id: str) -> str:
    """``hopper-medium`` for ``d4rl/hopper/medium-v2``."""
    return data_id.removeprefix("d4rl/").removesuffix("-v2").replace("/", "-")


def _advice(data_id: str) -> str:
    return f"copy the file from elsewhere and give its folder: {SOURCE.command(data_id)} --from FOLDER"


def _files(data_id: str, how: Pull) -> AbstractContextManager[Folder | Remote]:
    location = how.location or os.environ.get(VARIABLE) or PUBLIC
    if not is_address(location, "--from" if how.location else VARIABLE):
        return nullcontext(Folder(Path(location).expanduser()))
    terms = Terms(
        forbidden=f"; {_advice(data_id)}",
        missing=f"; is the base address right? --from or {VARIABLE} gives another one",
        offline=f"; with no network, {_advice(data_id)}",
        at_once=True,
        strict=True,
        progress=how.progress,
    )
    cache = store.root() / CACHE / Path(file_name(data_id)).stem
    return remote(location.rstrip("/"), cache, how, terms)


def _sha256(path: Path) -> str:
    try:
        with reading.opened(path, MOST) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except reading.ReadingError as error:
        raise DataError(str(error)) from error


def _spec(environment: str) -> Any:
    """What Minari is told about the environment. ``Ant-v4`` has 111 observations only with contact forces."""
    if environment != "Ant-v4":
        return environment
    import gymnasium

    spec = copy.deepcopy(gymnasium.spec(environment))
    spec.kwargs["use_contact_forces"] = True
    return spec
