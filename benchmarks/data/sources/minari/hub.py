"""Official data sets from Minari's remote, checked before they are put into the store.

Minari downloads in a process of its own (``client.py``) into a hidden folder of the store, where the next call resumes.
The process is ended when no data arrive, since Minari's clients would wait for ever.
"""

import os
import shutil
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from backbench import reading, terminal
from backbench.benchmarks.data import download, store
from backbench.benchmarks.data.describe import examine
from backbench.benchmarks.data.errors import DataError, Report
from backbench.benchmarks.data.sources.minari import client
from backbench.benchmarks.data.sources.minari.client import KEPT, NAME, NAMESPACE, Answer
from backbench.benchmarks.data.store import metadata
from backbench.benchmarks.data.trajectories import Trajectories
from backbench.claims import FIRST, Held, alone
from backbench.errors import UserError

REMOTE = "hf://farama-minari"
HUB, BUCKETS = ("HF_ENDPOINT", "https://huggingface.co"), ("STORAGE_EMULATOR_HOST", "https://storage.googleapis.com")
ENDPOINTS = {"hf": HUB, "gcp": BUCKETS}  # the variable that replaces the public address, and that address
STALL, POLL = 150.0, 1.0  # seconds without data until Minari's process is ended, and between two looks
TRUE = ("1", "ON", "YES", "TRUE")  # as in Hugging Face's client
RECORDED = {"author": "author", "algorithm_name": "algorithm", "code_permalink": "code_permalink", "license": "licence"}


def pull(name: str, report: Report = terminal.line, force: bool = False) -> None:
    """Put an official data set into the store. One that is there stays unless ``force``, and gets a sidecar.

    Raises ``DataError`` for no such data set, no network, a server that refuses or falls silent, a full disk, or data
    that contradict their metadata or cannot be used. The store then has what it had before.
    """
    if not NAME.fullmatch(name):
        raise DataError(f"'{name}' is no id of a Minari data set; write it with its version: mujoco/hopper/medium-v0")
    if store.exists(name) and not force:
        if store.sidecar(name):
            report(f"{name} is in the store already; --force replaces it")
            return
        data, origin = _checked(name, store.path_of(name), "", {}, report)  # Minari itself has put it there
        with _writing():
            store.write_sidecar(store.path_of(name), data, origin)
        report(f"{name} is in the store already; it is sound, and its hash is recorded now")
        return
    remote = os.environ.get("MINARI_REMOTE") or REMOTE
    reach(name, remote)
    with _staging(remote, name) as staging:
        arrived = False
        try:
            told = _download(name, staging, remote)
            arrived = True
            data, origin = _checked(name, staging / name, remote, told, report)
        except UserError:
            parts = [*staging.glob(".*"), *(staging / name).rglob("*")]  # the former are named by their hash
            if arrived or not any(p.stat().st_size for p in parts if p.is_file()):  # resuming would not repair it
                shutil.rmtree(staging, ignore_errors=True)
            raise
        with store.staged(name) as making:
            (making / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging / name, making / name)
            store.write_sidecar(making / name, data, origin)
        for space in Path(name).parents[:-1]:
            with suppress(OSError):  # a namespace's metadata are optional, and may be in the store already
                if (staging / space / NAMESPACE).stat().st_size > len("{}"):
                    os.link(staging / space / NAMESPACE, store.root() / space / NAMESPACE)
        shutil.rmtree(staging, ignore_errors=True)
    report(f"{name}: {len(data.lengths):,} episodes, {len(data.rewards):,} steps from {remote}")


def _checked(name: str, folder: Path, remote: str, told: Answer, report: Report) -> tuple[Trajectories, Answer]:
    """The data set in ``folder``, which ends with its name, and its origin. ``told`` is what the remote says of it."""
    where = f"data set {name!r} " + (f"from {remote}" if remote else f"in {folder}")
    for finding in examine(folder, None):
        if finding.level == "error":
            done = "it is not put into the store" if remote else store.remedy(name)
            raise DataError(f"{where}: {finding.message}; {done}")
        report(f"warning: {name}: {finding.message}")
    about = metadata.read(folder / "data")
    content = about.content
    for key, value in {"dataset_id": name, **told}.items():
        if content.get(key) != value:
            raise DataError(f"{where} has {key} {content.get(key)!r} in its metadata.json; expected {value!r}")
    origin: Answer = {"source": "minari", "original": name} | ({"remote": remote} if remote else {})
    said = {word: content.get(key) for key, word in RECORDED.items()}
    origin |= {word: value for word, value in said.items() if value and isinstance(value, str | list)}
    if not isinstance(origin.get("licence", ""), str):
        del origin["licence"]
    specs = ("env_spec", "eval_env_spec")
    origin |= {key: about.specification(key).get("id") for key in specs if content.get(key)}
    return store.load(name, folder.parents[name.count("/")]), origin


def reach(name: str, remote: str = "") -> None:
    """See ``Source.reach``. Minari itself needs half a minute for that."""
    remote = remote or os.environ.get("MINARI_REMOTE") or REMOTE
    kind, _, owner = remote.partition("://")
    if kind not in ENDPOINTS or not owner:
        raise DataError(f"MINARI_REMOTE is '{remote}'; write hf://ORGANISATION or gcp://BUCKET")
    variable, public = ENDPOINTS[kind]
    address = os.environ.get(variable) or public
    off = [v for v in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(v, "").upper() in TRUE]
    if problem := f"{off[0]} is set" if off and kind == "hf" else download.unreachable(address):
        elsewhere = f"run `bench data pull minari {name}` (or `minari download {name}`)"
        copy = f"copy the folder {name} into the store {store.root()}"
        raise DataError(f"no network ({problem}): on a machine with a network {elsewhere} and {copy}")


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot write to the data store {store.root()}: {error.strerror or error}") from error


@contextmanager
def _staging(remote: str, name: str) -> Iterator[Path]:
    """The folder in which the data set arrives, the same one on every call. No other process uses it meanwhile."""
    quoted = urllib.parse.quote(f"{remote}/{name}", safe="")
    folder = store.root() / f".pulling-{quoted}"
    with _writing():
        try:
            with alone(store.root() / f".claim-{quoted}", wait=False) as claim:
                if claim.folder.name != FIRST:  # the process before was killed, and its client ends a moment later
                    time.sleep(2 * client.POLL)
                folder.mkdir(parents=True, exist_ok=True)
                yield folder
        except Held as held:
            raise DataError(f"{name} is being pulled by {held}; wait until it is done") from held


def _download(name: str, staging: Path, remote: str) -> Answer:
    """Let Minari download the data set into the store ``staging``. Returns what the remote says of it."""
    variables = {"MINARI_DATASETS_PATH": str(staging), "HF_HUB_CACHE": str(staging / ".hub"), "MINARI_REMOTE": remote}
    variables |= {} if sys.stderr.isatty() else {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, "-m", client.__name__, name, str(store.root()), str(os.getpid())]
    options: Answer = {"stdout": subprocess.PIPE, "env": os.environ | variables, "text": True, "encoding": "utf-8"}
    with subprocess.Popen(command, **options) as child:
        try:
            size, now, since = 0, 0, time.monotonic()
            while child.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    child.wait(POLL)
                with suppress(OSError):  # a file that was removed meanwhile
                    now = sum(p.lstat().st_size for p in staging.rglob("*"))
                if now != size:
                    size, since = now, time.monotonic()
                elif time.monotonic() - since > STALL:
                    raise DataError(f"{name}: no data have arrived for {STALL:g} seconds{KEPT}")
        finally:
            child.kill()
        answer = child.stdout.read() if child.stdout else ""
    if not answer:
        raise DataError(f"{name}: the download ended with status {child.returncode}{KEPT}")
    outcome: Answer = reading.parse_json(answer, f"{name}: the answer of the download")
    if "error" in outcome:
        raise DataError(outcome["error"])
    return outcome
