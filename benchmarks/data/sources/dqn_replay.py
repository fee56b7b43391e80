"""Source ``dqn-replay``: the public logs of DQN in training (arXiv:1907.04543), 1 % of a run's transitions by default.

A run of a game has left 50 buffers, each of a million entries in four files: one gzipped NumPy array of single frames,
actions, clipped rewards or terminals. ``dqn_select`` chooses whole episodes by the small arrays; then every file of
frames that is needed is read once, front to back, and the episodes are written in the order of (buffer, position), so
that two episodes' frames are all that is ever in memory. A file of frames is not read past the last one needed.
"""

from __future__ import annotations

import gzip
import tokenize
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from backbench.benchmarks.data import store
from backbench.benchmarks.data.download import Folder, Remote, remote
from backbench.benchmarks.data.sources.dqn_select import BUFFERS, PADDING, WINDOW, Choice, Log, Span, select
from backbench.benchmarks.data.store import framestore
from backbench.benchmarks.data.trajectories import DataError, Episode, Trajectories
from backbench.errors import suggest

PUBLIC = "https://storage.googleapis.com/atari-replay-datasets/dqn"
CACHE = ".dqn-replay-cache"
FORBIDDEN = (
    "; the public bucket has answered 403 since 2025: get a copy of the logs from somebody who has one, and give its "
    "folder: bench data pull dqn-replay {} --from FOLDER"
)
GAMES = {"breakout": ("Breakout", 4), "qbert": ("Qbert", 6), "pong": ("Pong", 6), "seaquest": ("Seaquest", 18)}
SMALL: dict[str, Any] = {"action": np.int32, "reward": np.float32, "terminal": np.uint8}
FRAME = (84, 84)
BLOCK = 1 << 20

Report = Callable[[str], None]


def file_name(kind: str, buffer: int) -> str:
    """What the file of a buffer's observations, actions, rewards or terminals is called."""
    return f"$store$_{kind}_ckpt.{buffer}.gz"


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except EOFError as error:
        raise DataError(f"{path} is cut short; get the file again") from error
    except (OSError, zlib.error, ValueError, SyntaxError, tokenize.TokenError) as error:  # the last three: a bad header
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} cannot be read ({reason}); get the file again") from error


class Shard:
    """One published array, read front to back out of its gzip.

    Attributes:
        size: its entries.

    Raises:
        DataError: entries of another type than ``dtype`` or another shape than ``item``, or no gzipped array at all;
            reading: cut short or damaged.
    """

    def __init__(self, path: Path, dtype: Any, item: tuple[int, ...] = ()) -> None:
        self.path = path
        with _reading(path), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy warns of headers that Python 2 wrote
            self._file = gzip.GzipFile(path, "rb")
            try:
                version = np.lib.format.read_magic(self._file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, fortran, found = read(self._file)
            except BaseException:
                self._file.close()
                raise
        if found != np.dtype(dtype) or len(shape) != 1 + len(item) or shape[1:] != item or fortran or shape[0] < 1:
            self._file.close()
            wanted = f"{np.dtype(dtype)} ({', '.join(map(str, ('n', *item)))})"
            raise DataError(f"{path} holds {found} {shape}; expected {wanted}, so it is no part of these logs")
        self.size: int = shape[0]
        self._bytes = int(np.prod(item, dtype=int)) * np.dtype(dtype).itemsize

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, out: NDArray[Any]) -> None:
        """Fill ``out`` with the next entries."""
        view, done = memoryview(out.data).cast("B"), 0
        while done < len(view):
            with _reading(self.path):
                got = self._file.readinto(view[done : done + BLOCK])
                if not got:
                    raise EOFError
            done += got

    def skip(self, count: int) -> None:
        """Pass over entries."""
        left = count * self._bytes
        scratch = memoryview(bytearray(min(left, BLOCK)))
        while left:
            with _reading(self.path):
                got = self._file.readinto(scratch[:left])
                if not got:
                    raise EOFError
            left -= got

    def end(self) -> None:
        """Make sure that the file ends here, and that its checksum is right."""
        with _reading(self.path):
            if self._file.read(1):
                raise ValueError("it is longer than its header says")


def _log(files: Folder | Remote, game: str, buffer: int) -> Log:
    """The small arrays of a buffer, as far as they are looked at, checked."""
    arrays: dict[str, NDArray[Any]] = {}
    size = 0
    for kind, dtype in SMALL.items():
        with files.open(file_name(kind, buffer)) as path, Shard(path, dtype) as shard:
            size = size or shard.size
            _same_size(shard, size)
            array = arrays[kind] = np.empty(min(size, WINDOW), dtype)
            shard.read(array)
            shard.skip(size - len(array))
            shard.end()
            _check(kind, array, game, path)
    if files.local:  # better to be told now than after an hour; what is fetched is looked at when it is fetched
        with files.open(file_name("observation", buffer)) as path, Shard(path, np.uint8, FRAME) as shard:
            _same_size(shard, size)
    return Log(buffer, arrays["action"], arrays["reward"], arrays["terminal"] != 0, size)


def _same_size(shard: Shard, size: int) -> None:
    if shard.size != size:
        raise DataError(
            f"{shard.path} has {shard.size:,} entries, another file of the same buffer {size:,}; they are of different "
            "runs or games: get them again"
        )


def _check(kind: str, array: NDArray[Any], game: str, path: Path) -> None:
    n_actions = GAMES[game][1]
    good, meant = {
        "action": ((array >= 0) & (array < n_actions), f"the actions of {game} are 0 to {n_actions - 1}"),
        "reward": (np.abs(array) <= 1, "rewards are clipped to -1 to 1"),
        "terminal": (array <= 1, "terminals are 0 or 1"),
    }[kind]
    if not good.all():
        place = int(np.argmin(good))
        raise DataError(f"{path}: {array[place]} at entry {place:,}, but {meant}; are these files of {game}?")


def _episodes(
    files: Folder | Remote, chosen: dict[int, list[Span]], logs: dict[int, Log], game: str, report: Report
) -> Iterator[Episode]:
    for number, (buffer, spans) in enumerate(sorted(chosen.items()), 1):
        log, position = logs[buffer], 0
        with files.open(file_name("observation", buffer), once=True) as path, Shard(path, np.uint8, FRAME) as shard:
            _same_size(shard, log.size)
            for start, stop in spans:
                shard.skip(start - position)
                yield _episode(shard, log, start, stop)
                position = stop
        steps = sum(stop - start for start, stop in spans)
        report(f"{game}: buffer {buffer} ({number} of {len(chosen)}): {len(spans)} episodes, {steps:,} transitions")


def _episode(shard: Shard, log: Log, start: int, stop: int) -> Episode:
    """One episode, the shard being at its first frame.

    The logs end an episode with the frame that its last action was chosen from. The one after it was not logged; the
    store wants one, and gets the last one again. Padding before the episode is left out: exactly so many entries that
    are zero throughout. The logs do not tell the end of a game from the time limit of 27,000 steps: all ends are
    taken for the former.
    """
    frames = np.empty((stop - start + 1, *FRAME), np.uint8)
    shard.read(frames[:-1])
    frames[-1] = frames[-2]
    first = PADDING if log.may_be_padded(start) and not frames[:PADDING].any() else 0
    taken = slice(start + first, stop)
    return Episode(frames[first:], log.actions[taken], log.rewards[taken].astype(np.float64), True)


def _folder(location: Path, game: str, run: int) -> Folder:
    """The folder below ``location`` that holds the files, or itself."""
    tail = Path(GAMES[game][0]) / str(run) / "replay_logs"
    places = (location / tail, location / "dqn" / tail, location)
    for place in places:
        if next(place.glob("$store$_*_ckpt.*.gz"), None) is not None:
            return Folder(place)
    raise DataError(
        f"no files of the DQN-replay logs ($store$_..._ckpt.N.gz) in {location}, {places[0]} or {places[1]}; give the "
        "folder of a copy with --from"
    )


def _files(location: str, game: str, run: int, keep: bool, report: Report) -> AbstractContextManager[Folder | Remote]:
    if not location.lower().startswith(("http://", "https://")):
        return nullcontext(_folder(Path(location).expanduser(), game, run))
    parts = urlsplit(location)
    if parts.query or parts.fragment or "@" in parts.netloc or not parts.netloc:
        raise DataError(f"--from {location}: give an address without name, password, ? and #")
    tail = f"{GAMES[game][0]}/{run}"
    url = f"{location.rstrip('/')}/{tail}/replay_logs"
    return remote(url, store.root() / CACHE / tail, FORBIDDEN.format(game), keep, report)


def pull(game: str, choice: Choice, location: str = PUBLIC, keep: bool = False, report: Report = print) -> Trajectories:
    """Put a game's set into the store, under ``choice.data_id(game)``.

    Args:
        game: one of ``GAMES``.
        choice: how much of the logs, and how it is drawn.
        location: a folder, which holds ``<Game>/<run>/replay_logs``, or ``dqn/<Game>/<run>/replay_logs``, or the files;
            or the address that ``<Game>/<run>/replay_logs`` is below.
        keep: leave the fetched files of frames in ``.dqn-replay-cache`` in the store; the small ones always stay.
        report: gets a line for each file that was fetched, and for each buffer that was read.

    Raises:
        DataError: a file that is missing, broken, or of another game; an address that gives none. The store has
            then what it had before, and in its cache what was fetched whole or in part.
    """
    if game not in GAMES:
        raise DataError(f"dqn-replay: no game '{game}'{suggest(game, GAMES)}")
    with _files(location, game, choice.run, keep, report) as files:
        visits, logs = select(choice, lambda buffer: _log(files, game, buffer))
        chosen: dict[int, list[Span]] = {}
        for visit in visits:
            chosen.setdefault(visit.buffer, []).extend(visit.episodes)
        report(f"{game}: {sum(map(len, chosen.values()))} episodes in {len(chosen)} of {BUFFERS} buffers are chosen")
        origin = {
            "source": "dqn-replay",
            "location": files.where,
            **{name: getattr(choice, name) for name in choice.__dataclass_fields__},
            "window": WINDOW,
            "rewards": "clipped",
            "algorithm": "DQN (Nature)",
            "description": f"whole episodes of {game} from the logs of a DQN agent in training, played with sticky "
            "actions (0.25) and the ROM of atari-py 0.2.5; an episode's last frame is there twice",
            "citation": "Agarwal, Schuurmans, Norouzi: An Optimistic Perspective on Offline Reinforcement Learning "
            "(ICML 2020), arXiv:1907.04543",
            "licence": "not stated with the logs; ask their publisher, Google Research",
        }
        return framestore.write(
            choice.data_id(game), _episodes(files, chosen, logs, game, report), GAMES[game][1], origin
        )
