"""Official data sets from Minari's remote: brought by Minari itself, checked, and only then put into the store.

Minari runs in a process of its own, which is ended when nothing arrives for a while; its clients would wait for ever.
What arrives lies in a hidden folder of the store, and the next call goes on from there. Hugging Face's client drops the
part of a file that it was cut off in: large files are fetched before Minari is called, and it checks their sha256.
"""

from __future__ import annotations

import difflib
import errno
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from backbench.benchmarks.data import download, store
from backbench.benchmarks.data.describe import examine
from backbench.benchmarks.data.trajectories import DataError, Trajectories
from backbench.errors import UserError

REMOTE = "hf://farama-minari"
HUB, BUCKETS = ("HF_ENDPOINT", "https://huggingface.co"), ("STORAGE_EMULATOR_HOST", "https://storage.googleapis.com")
ENDPOINTS = {"hf": HUB, "gcp": BUCKETS}  # the variable that names another one, and the public one
NAME = re.compile(r"((?:[-\w]+/)*[-\w]+)-v(\d+)")
NAMESPACE = "namespace_metadata.json"
STALL, POLL = 150.0, 1.0  # seconds without a byte until Minari's process is ended; how often that is looked at
LARGE = 1 << 20  # bytes of a file that is worth going on with
TRUE = ("1", "ON", "YES", "TRUE")  # as Hugging Face's client has it
KEPT = "; what came so far is kept: run the command again"
TOLD = {"author": "author", "algorithm_name": "algorithm", "code_permalink": "code_permalink", "license": "licence"}

Report = Callable[[str], None]
Answer = dict[str, Any]


def pull(name: str, report: Report = print, force: bool = False) -> str:
    """Put an official set into the store; one that is there stays, and gets a sidecar if it has none.

    Args:
        name: Minari's id, such as ``mujoco/hopper/medium-v0``; it is the id in the store too.
        report: gets a line now and then.
        force: bring the set anew; the old one is replaced when the new one is whole.

    Returns:
        ``name``, when the set is in the store.

    Raises:
        DataError: no such set, no network, a server that refuses or falls silent, a full disk, or a set that is not
            what its metadata say or cannot be used. The store has then what it had before.
    """
    if not NAME.fullmatch(name):
        raise DataError(f"'{name}' is no id of a Minari data set; write it with its version: mujoco/hopper/medium-v0")
    remote = os.environ.get("MINARI_REMOTE") or REMOTE
    here = store.exists(name) and not force
    if here and store.sidecar(name):
        report(f"{name} is in the store already; --force brings it anew")
        return name
    if here:  # Minari alone has put it there
        data, origin = _checked(name, store.path_of(name), "", {}, report)
        with _staging("", name) as (staging, _):
            store.write_sidecar(staging, data, origin)
            os.replace(staging / store.SIDECAR, store.path_of(name) / store.SIDECAR)
            staging.rmdir()
        report(f"{name} is in the store already; it is sound, and its hash is noted now")
        return name
    reach(name, remote)
    with _staging(remote, name) as (staging, lock):
        try:
            told = _bring(name, staging, lock, remote)
        except DataError:
            if not any(p.stat().st_size for p in _arrived(name, staging)):
                shutil.rmtree(staging, ignore_errors=True)  # there is nothing to go on with
            raise
        try:
            data, origin = _checked(name, staging / name, remote, told, report)
        except UserError:
            shutil.rmtree(staging, ignore_errors=True)  # going on with it would not mend it
            raise
        with store.staged(name) as making:
            (making / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging / name, making / name)
            store.write_sidecar(making / name, data, origin)
        for space in Path(name).parents[:-1]:
            with suppress(OSError):  # what Minari says of a folder is no part of the set, and may be there
                if (staging / space / NAMESPACE).stat().st_size > len("{}"):
                    os.link(staging / space / NAMESPACE, store.root() / space / NAMESPACE)
        shutil.rmtree(staging, ignore_errors=True)
    report(f"{name}: {len(data.lengths):,} episodes, {len(data.rewards):,} steps from {remote}")
    return name


def _arrived(name: str, staging: Path) -> list[Path]:
    """Files of the set itself that are there, whole or in part."""
    parts = [p for p in staging.glob(".*") if p.is_file()]  # named by their hash
    return parts + [p for p in (staging / name).rglob("*") if p.is_file()]


def _checked(name: str, folder: Path, remote: str, told: Answer, report: Report) -> tuple[Trajectories, Answer]:
    """The set in ``folder``, which ends with its name, and its origin; ``told`` is what the remote says of it."""
    where = f"data set {name!r} " + (f"from {remote}" if remote else f"in {folder}")
    for finding in examine(folder, None):
        if finding.level == "error":
            done = "it is not put into the store" if remote else store.remedy(name)
            raise DataError(f"{where}: {finding.message}; {done}")
        report(f"warning: {name}: {finding.message}")
    metadata = json.loads((folder / "data" / "metadata.json").read_text())
    for key, value in {"dataset_id": name, **told}.items():
        if metadata.get(key) != value:
            raise DataError(f"{where} has {key} {metadata.get(key)!r} in its metadata.json; expected {value!r}")
    origin: Answer = {"source": "minari", "original": name} | ({"remote": remote} if remote else {})
    origin |= {word: metadata[key] for key, word in TOLD.items() if metadata.get(key)}
    specs = ("env_spec", "eval_env_spec")
    origin |= {key: json.loads(metadata[key]).get("id") for key in specs if metadata.get(key)}
    return store.load(name, folder.parents[name.count("/")]), origin


def reach(name: str, remote: str = "") -> None:
    """Raise ``DataError`` within two seconds if nobody answers where the set is to come from.

    Minari takes half a minute to say so.
    """
    remote = remote or os.environ.get("MINARI_REMOTE") or REMOTE
    kind, _, owner = remote.partition("://")
    if kind not in ENDPOINTS or not owner:
        raise DataError(f"MINARI_REMOTE is '{remote}'; write hf://ORGANISATION or gcp://BUCKET")
    variable, public = ENDPOINTS[kind]
    address = os.environ.get(variable) or public
    off = [v for v in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(v, "").upper() in TRUE]
    if problem := f"{off[0]} is set" if off and kind == "hf" else download.unreachable(address):
        raise DataError(
            f"no network ({problem}): on a machine with one run `bench data pull minari {name}` (or `minari download "
            f"{name}`) and copy the folder {name} into the store {store.root()}"
        )


@contextmanager
def _staging(remote: str, name: str) -> Iterator[tuple[Path, int]]:
    """The folder that the set arrives in, always the same one, and the handle that locks it."""
    folder = store.root() / f".pulling-{urllib.parse.quote(f'{remote}/{name}', safe='')}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not folder.exists() or not os.path.samestat(os.fstat(handle), os.stat(folder)):
                raise BlockingIOError  # the other process has just removed it
            yield folder, handle
    except BlockingIOError as error:
        raise DataError(f"{name} is being pulled by another process; wait for that one") from error
    except OSError as error:
        raise DataError(f"cannot write to the data store {store.root()}: {error.strerror or error}") from error


def _bring(name: str, staging: Path, lock: int, remote: str) -> Answer:
    """Let Minari download the set into the store ``staging``; what the remote says of it."""
    places = {"MINARI_DATASETS_PATH": str(staging), "HF_HUB_CACHE": str(staging / ".hub"), "MINARI_REMOTE": remote}
    if not sys.stderr.isatty():
        places["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    command = [
        sys.executable,
        "-m",
        "backbench.benchmarks.data.sources.minari_hub",
        name,
        str(store.root()),
        str(os.getpid()),
    ]
    # The lock is handed on: should this process be killed, that one is there a moment longer.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=os.environ | places, pass_fds=[lock], text=True
    ) as child:
        try:
            size, now, since = 0, 0, time.monotonic()
            while child.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    child.wait(POLL)
                with suppress(OSError):  # a file that has gone meanwhile
                    now = sum(p.lstat().st_size for p in staging.rglob("*"))
                if now != size:
                    size, since = now, time.monotonic()
                elif time.monotonic() - since > STALL:
                    raise DataError(f"{name}: nothing has arrived for {STALL:g} seconds{KEPT}")
        finally:
            child.kill()
        answer = child.stdout.read() if child.stdout else ""
    if not answer:
        raise DataError(f"{name}: the download ended with status {child.returncode}{KEPT}")
    outcome: Answer = json.loads(answer)
    if "error" in outcome:
        raise DataError(outcome["error"])
    return outcome


def _client(name: str, root: Path, parent: int) -> None:
    """The other process: download into Minari's store, which is not ``root``, and write what came of it to stdout."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the parent ends this one
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
        outcome = {"error": f"{name}: {_in_words(error)}"}
    with answer:
        json.dump(outcome, answer)


def _download(name: str, root: Path, staging: Path) -> Answer:
    import minari.namespace
    from minari.serialization import deserialize_space
    from minari.storage.remotes import get_cloud_storage

    from backbench.benchmarks.environments import spaces

    remote = os.environ["MINARI_REMOTE"]
    there = minari.list_remote_datasets(prefix=name.rpartition("-v")[0])
    if name not in there:
        known = list(there) or list(get_cloud_storage().list_datasets(f"{name.partition('/')[0]}/"))
        near = ", ".join(difflib.get_close_matches(name, known, n=5, cutoff=0.5)) or "none"
        raise DataError(f"there is no data set {name!r} at {remote}; near it: {near}")
    told = there[name]
    if (version := told.get("minari_version")) not in minari.supported_dataset_versions:
        raise DataError(f"data set {name!r} is of Minari {version}, which the one here cannot read; update Minari")
    if "observation_space" in told and "action_space" in told:  # better to be told now than after an hour
        spaces.check_observations(deserialize_space(told["observation_space"]), f"data set {name!r}")
        spaces.Actions.of(deserialize_space(told["action_space"]), f"data set {name!r}")
    for space in reversed(Path(name).parents[:-1]):  # without this, which may fail, Minari's download would
        path = staging / space / NAMESPACE
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(Exception):
            if (root / space / NAMESPACE).is_file():
                shutil.copyfile(root / space / NAMESPACE, path)
            elif not path.is_file():
                minari.namespace.download_namespace_metadata(space.as_posix())
        if not path.is_file():
            path.write_text("{}")
    expected = _large_files(name, remote, staging) if remote.startswith("hf://") else {}
    minari.download_dataset(name, force_download=True)  # else it takes a folder that is there for the whole set
    shutil.rmtree(staging / name / ".cache", ignore_errors=True)
    for path, size in expected.items():  # without a network, the client takes for the whole what is there
        if not path.is_file() or path.stat().st_size != size:
            raise DataError(f"{name}: {path.name} has not come whole{KEPT}")
    return {key: told[key] for key in ("total_episodes", "total_steps")}


def _large_files(name: str, remote: str, staging: Path) -> dict[Path, int]:
    """Bring the large files of a set on Hugging Face, if they are open to all; the sizes of all of its files."""
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
            whole = staging / f".{int(large.sha256, 16):064x}"  # another version does not go on from this one
            with bars(total=size, unit="B", unit_scale=True, desc=target.name) as bar:
                terms = download.Terms(missing="", progress=lambda done, _, bar=bar: bar.update(done - bar.n))  # type: ignore[misc]
                download.download(hf_hub_url(repository, file.path, repo_type="dataset"), whole, terms=terms)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(whole, target)
    return expected


def _in_words(error: BaseException) -> str:
    """One line about what the clients raise, which wrap the cause in advice on something else."""
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
    said = " ".join(str(error).split())[:500] or type(error).__name__
    return said if isinstance(error, ImportError) else said + KEPT


if __name__ == "__main__":
    _client(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
