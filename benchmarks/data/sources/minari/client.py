"""The process in which Minari downloads a data set: ``python -m …client ID STORE PARENT``.

It prints what the remote says of the data set, or an error, as JSON. Hugging Face's client drops the part of a file at
which it was interrupted. So large files are downloaded before Minari is called, which then checks their sha256.
"""

import difflib
import errno
import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from backbench.benchmarks.data import download
from backbench.benchmarks.data.errors import DataError
from backbench.errors import UserError, one_line

NAME = re.compile(r"((?:[-\w]+/)*[-\w]+)-v(\d+)")
NAMESPACE = "namespace_metadata.json"
LARGE = 1 << 20  # bytes of a file that is worth resuming
KEPT = "; the part so far is kept: run the command again"
POLL = 1.0  # seconds between two looks at the parent

Answer = dict[str, Any]


def main(name: str, root: Path, parent: int) -> None:
    """Download ``name`` and print the outcome. ``root`` is the user's store, ``parent`` the process to end with."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both processes; the parent ends this one
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Minari prints

    def end_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(POLL)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        outcome = _download(name, root, Path(os.environ["MINARI_DATASETS_PATH"]))
    except UserError as error:
        outcome = {"error": str(error)}
    except Exception as error:  # Minari and the clients below it raise many kinds
        outcome = {"error": f"{name}: {in_words(error)}"}
    with answer:
        json.dump(outcome, answer)


def _download(name: str, root: Path, staging: Path) -> Answer:
    import minari

    remote = os.environ["MINARI_REMOTE"]
    told = _told(name, remote)
    for space in reversed(Path(name).parents[:-1]):  # otherwise Minari's download does this, which may fail
        _namespace(space, root, staging)
    expected = _large_files(name, remote, staging) if remote.startswith("hf://") else {}
    minari.download_dataset(name, force_download=True)  # otherwise it takes any folder for a complete data set
    shutil.rmtree(staging / name / ".cache", ignore_errors=True)
    for path, size in expected.items():  # without a network, the client takes what is there for complete
        if not path.is_file() or path.stat().st_size != size:
            raise DataError(f"{name}: {path.name} is incomplete{KEPT}")
    return {key: told[key] for key in ("total_episodes", "total_steps")}


def _told(name: str, remote: str) -> Answer:
    """What the remote says of a data set. DataError if it is not there or cannot be used."""
    import minari
    from minari.storage.remotes import get_cloud_storage

    from backbench.benchmarks.data.store import metadata
    from backbench.benchmarks.environments import spaces

    there = minari.list_remote_datasets(prefix=name.rpartition("-v")[0])
    if name not in there:
        known = list(there) or list(get_cloud_storage().list_datasets(f"{name.partition('/')[0]}/"))
        near = ", ".join(difflib.get_close_matches(name, known, n=5, cutoff=0.5)) or "none"
        raise DataError(f"there is no data set {name!r} at {remote}; near it: {near}")
    told: Answer = there[name]
    if (version := told.get("minari_version")) not in minari.supported_dataset_versions:
        raise DataError(f"data set {name!r} is of Minari {version}, which the installed one cannot read; update Minari")
    if "observation_space" in told and "action_space" in told:  # fail now instead of after an hour
        observations, actions = (
            metadata.space(told[f"{kind}_space"], f"data set {name!r}: {kind}_space")
            for kind in ("observation", "action")
        )
        spaces.check_observations(observations, f"data set {name!r}")
        spaces.Actions.of(actions, f"data set {name!r}")
    return told


def _namespace(space: Path, root: Path, staging: Path) -> None:
    """Put the metadata of a namespace into ``staging``, empty ones if they cannot be had."""
    import minari.namespace

    path, ours = staging / space / NAMESPACE, root / space / NAMESPACE
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(Exception):
        if ours.is_file():
            shutil.copyfile(ours, path)
        elif not path.is_file():
            minari.namespace.download_namespace_metadata(space.as_posix())
    if not path.is_file():
        path.write_text("{}")


def _large_files(name: str, remote: str, staging: Path) -> dict[Path, int]:
    """Download the large files of a set on Hugging Face if they are open to all. Returns the sizes of all files."""
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.utils.tqdm import tqdm

    group, _, inside = name.partition("/")
    repository = f"{remote.partition('://')[2]}/{group}"
    about = HfApi().dataset_info(repository)
    expected, bars = {}, cast(Any, tqdm)  # it has no types
    for file in HfApi().list_repo_tree(repository, inside or None, recursive=True, repo_type="dataset"):
        size, large, target = getattr(file, "size", None), getattr(file, "lfs", None), staging / group / file.path
        if size is None or ".." in target.parts:
            continue
        expected[target] = size
        if large and size >= LARGE and not (about.private or about.gated or target.is_file()):
            content = staging / f".{int(large.sha256, 16):064x}"  # another version must not resume this one
            with bars(total=size, unit="B", unit_scale=True, desc=target.name) as bar:
                terms = download.Terms(missing="", progress=lambda done, _, bar=bar: bar.update(done - bar.n))  # type: ignore[misc]
                download.download(hf_hub_url(repository, file.path, repo_type="dataset"), content, terms)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(content, target)
    return expected


def in_words(error: BaseException) -> str:
    """One line about an exception of the clients, which wrap the cause in unrelated advice."""
    problem: BaseException | None = error
    while problem is not None:
        status = getattr(getattr(problem, "response", None), "status_code", None)
        if status is not None:
            token = "; if the set is not open to all, set HF_TOKEN"
            return f"the server answered {status}" + {401: token, 403: token, 404: ""}.get(status, KEPT)
        if isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"the disk is full ({problem.strerror}){KEPT}"
        if "Timeout" in type(problem).__name__:
            return f"the server has not answered in time{KEPT}"
        error, problem = problem, problem.__cause__
    return one_line(error, 500) + ("" if isinstance(error, ImportError) else KEPT)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
