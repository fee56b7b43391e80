"""Source ``dqn-replay``: the public logs of DQN in training (arXiv:1907.04543), 1 % of a run by default.

A run of a game has 50 buffers of a million entries. Each is four files: gzipped NumPy arrays of single frames, actions,
clipped rewards and terminals. ``dqn_select`` chooses complete episodes by the small arrays. Then each needed file of
frames is read once, front to back, so that at most two episodes' frames are in memory.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backbench import reading
from backbench.benchmarks.data import store
from backbench.benchmarks.data.download import Folder, Remote, Terms, is_address, remote
from backbench.benchmarks.data.errors import DataError, Report
from backbench.benchmarks.data.sources.dqn_select import BUFFERS, PADDING, WINDOW, Choice, Log, Span, select
from backbench.benchmarks.data.sources.source import Pull, Source
from backbench.benchmarks.data.store import framestore
from backbench.benchmarks.data.trajectories import Episode
from backbench.errors import first_line, suggest

PUBLIC = "https://storage.googleapis.com/atari-replay-datasets/dqn"
CACHE = ".dqn-replay-cache"
FORBIDDEN = "; the public bucket has answered 403 since 2025: get a copy of the logs and give its folder: {}"
GAMES = {"breakout": ("Breakout", 4), "qbert": ("Qbert", 6), "pong": ("Pong", 6), "seaquest": ("Seaquest", 18)}
SMALL: dict[str, Any] = {"action": np.int32, "reward": np.float32, "terminal": np.uint8}
FRAME = (84, 84)
BLOCK = 1 << 20
MOST = 16 * 1024 * reading.MB  # bytes of a file
ENTRIES = 2_000_000  # of a buffer; the published ones have a million
DENSEST = 1100  # bytes of an array for each byte of its file; gzip reaches 1032
LONGEST = 30_000  # steps of an episode; the logging agent's limit was 27,000


class DqnReplay(Source):
    """Data sets that are selected from the logs, of which the user has a copy."""

    name = "dqn-replay"
    kind = "imported"
    licence = "not stated"
    namespaces = ("dqn-replay",)
    default_names = tuple(GAMES)

    def ids(self) -> list[str]:
        return [Choice().data_id(game) for game in GAMES]

    def command(self, data_id: str) -> str:
        return f"bench data pull dqn-replay {_game(data_id)} --from FOLDER"

    def check_pull(self, names: Sequence[str], how: Pull) -> None:
        location = Path(how.location).expanduser()
        if how.location and len(names) > 1 and any(location.glob("$store$_*.gz")):
            raise DataError(f"--from {how.location} holds the files of one game; name the game")

    def resolve(self, name: str, how: Pull, known: Iterable[str]) -> str:
        game = _game(name)
        if game not in GAMES:
            raise DataError(f"no game '{game}'{suggest(game, GAMES)}")
        return (how.choice or Choice()).data_id(game)

    def fetch(self, data_id: str, how: Pull) -> None:
        """See ``Source.fetch``. ``how.location`` is a folder or an address that holds ``<Game>/<run>/replay_logs``.

        A folder may also hold ``dqn/<Game>/<run>/replay_logs``, or the files.
        """
        game, choice = _game(data_id), how.choice or Choice()
        with _files(game, choice.run, how) as files:
            visits, logs = select(choice, lambda buffer: _log(files, game, buffer))
            chosen: dict[int, list[Span]] = {}
            for visit in visits:
                chosen.setdefault(visit.buffer, []).extend(visit.episodes)
            count = sum(map(len, chosen.values()))
            how.report(f"{game}: {count} episodes chosen from {len(chosen)} of {BUFFERS} buffers")
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
            framestore.write(data_id, _episodes(files, chosen, logs, game, how.report), GAMES[game][1], origin)


SOURCE = DqnReplay()


def _game(name: str) -> str:
    """The game of an id. Any other name is a game's."""
    parts = name.split("/")
    return parts[1] if len(parts) == 3 and parts[0] == SOURCE.name else name


def file_name(kind: str, buffer: int) -> str:
    """The name of the file of a buffer's observations, actions, rewards or terminals."""
    return f"$store$_{kind}_ckpt.{buffer}.gz"


def _log(files: Folder | Remote, game: str, buffer: int) -> Log:
    """The small arrays of a buffer, up to ``WINDOW`` entries, checked."""
    arrays, size = dict[str, NDArray[Any]](), 0
    for kind, dtype in SMALL.items():
        with files.open(file_name(kind, buffer)) as path, Shard(path, dtype) as shard:
            size = size or shard.size
            _same_size(shard, size)
            array = arrays[kind] = np.empty(min(size, WINDOW), dtype)
            shard.read(array)
            shard.skip(size - len(array))
            shard.end()
            _check(kind, array, game, path)
    if files.local:  # fail now instead of after an hour; downloads are checked when they arrive
        with files.open(file_name("observation", buffer)) as path, Shard(path, np.uint8, FRAME) as shard:
            _same_size(shard, size)
    return Log(buffer, arrays["action"], arrays["reward"], arrays["terminal"] != 0, size)


def _same_size(shard: Shard, size: int) -> None:
    if shard.size != size:
        have = f"{shard.path} has {shard.size:,} entries, another file of the same buffer {size:,}"
        raise DataError(f"{have}; they belong to different runs or games: get them again")


def _check(kind: str, array: NDArray[Any], game: str, path: Path) -> None:
    n_actions = GAMES[game][1]
    good, meant = {
        "action": ((array >= 0) & (array < n_actions), f"the actions of {game} are 0 to {n_actions - 1}"),
        "reward": (np.abs(array) <= 1, "rewards are clipped to -1 to 1"),
        "terminal": (array <= 1, "terminals are 0 or 1"),
    }[kind]
    if not good.all():
        index = int(np.argmin(good))
        raise DataError(f"{path}: {array[index]} at entry {index:,}, but {meant}; are these files of {game}?")


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
    """One episode. ``shard`` is at its first frame.

    The logs lack the frame after the last action, so the last frame is repeated. ``PADDING`` zeros before the episode
    are skipped. The logs do not tell the end of a game from its time limit: all ends count as terminations.
    """
    if stop - start > LONGEST:
        raise DataError(
            f"{shard.path}: the episode at entry {start:,} has {stop - start:,} steps; is the file damaged?"
        )
    frames = np.empty((stop - start + 1, *FRAME), np.uint8)
    shard.read(frames[:-1])
    frames[-1] = frames[-2]
    first = PADDING if log.may_be_padded(start) and not frames[:PADDING].any() else 0
    taken = slice(start + first, stop)
    return Episode(frames[first:], log.actions[taken], log.rewards[taken].astype(np.float64), True)


def _folder(location: Path, tail: str) -> Folder:
    """``location`` or the folder below it that holds the files."""
    folders = (location / tail / "replay_logs", location / "dqn" / tail / "replay_logs", location)
    for folder in folders:
        if next(folder.glob("$store$_*_ckpt.*.gz"), None) is not None:
            return Folder(folder)
    where = f"{location}, {folders[0]} or {folders[1]}; give the folder of a copy with --from"
    raise DataError(f"no files of the DQN-replay logs ($store$_..._ckpt.N.gz) in {where}")


def _files(game: str, run: int, how: Pull) -> AbstractContextManager[Folder | Remote]:
    location, tail = how.location or PUBLIC, f"{GAMES[game][0]}/{run}"
    if not is_address(location, "--from"):
        return nullcontext(_folder(Path(location).expanduser(), tail))
    terms = Terms(forbidden=FORBIDDEN.format(SOURCE.command(game)))
    return remote(f"{location.rstrip('/')}/{tail}/replay_logs", store.root() / CACHE / tail, how, terms)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except EOFError as error:
        raise DataError(f"{path} is truncated; get the file again") from error
    except reading.ReadingError as error:
        raise DataError(f"{error}; get the file again") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({first_line(error)}); get the file again") from error


class Shard(AbstractContextManager["Shard"]):
    """One array with ``size`` entries of ``dtype`` and shape ``item``. DataError for another or a broken file.

    What it declares is compared with what is expected, and with the file's size, before anything is allocated.
    """

    def __init__(self, path: Path, dtype: Any, item: tuple[int, ...] = ()) -> None:
        self.path = path
        with _reading(path):
            self._file = io.BufferedReader(reading.Unzipped(path, MOST), reading.BLOCK)
            try:
                shape, fortran, found, _ = reading.npy_header(self._file.read)
            except BaseException:
                self._file.close()
                raise
        if found != np.dtype(dtype) or len(shape) != 1 + len(item) or shape[1:] != item or fortran or shape[0] < 1:
            self._file.close()
            wanted = f"{np.dtype(dtype)} ({', '.join(map(str, ('n', *item)))})"
            raise DataError(f"{path} holds {found} {shape}; expected {wanted}, so it does not belong to these logs")
        self.size: int = shape[0]
        self._bytes = int(np.prod(item, dtype=int)) * np.dtype(dtype).itemsize
        size = path.stat().st_size
        if self.size > min(ENTRIES, DENSEST * (size + reading.BLOCK) // self._bytes):
            self._file.close()
            raise DataError(f"{path} declares {self.size:,} entries in {size:,} bytes; get the file again")

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, out: NDArray[Any]) -> None:
        """Fill ``out`` with the next entries."""
        view, done = memoryview(out.data).cast("B"), 0
        while done < len(view):
            done += self._read(view[done : done + BLOCK])

    def skip(self, count: int) -> None:
        """Skip entries."""
        left = count * self._bytes
        scratch = memoryview(bytearray(min(left, BLOCK)))
        while left:
            left -= self._read(scratch[:left])

    def _read(self, out: memoryview) -> int:
        with _reading(self.path):
            if got := self._file.readinto(out):
                return got
            raise EOFError

    def end(self) -> None:
        """Check that the file ends here and that its checksum is right."""
        with _reading(self.path):
            if self._file.read(1):
                raise ValueError("it is longer than its header says")
