"""The logs of DQN-replay from a folder: what is written is what was logged, and what is broken is named."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from replay_logs import KINDS, Buffer, agent, expected_visits, name_of, packed, row_of, step_of, write

from backbench.benchmarks.data import store
from backbench.benchmarks.data.errors import DataError
from backbench.benchmarks.data.frames import Frames
from backbench.benchmarks.data.sources import Pull, dqn_replay, dqn_select
from backbench.benchmarks.data.sources.dqn_select import Choice
from backbench.benchmarks.data.store import framestore
from backbench.benchmarks.data.trajectories import Trajectories

CHOICE = Choice(60, 5, trajectories_per_buffer=2, buffers=3)
NAME = CHOICE.data_id("breakout")
LENGTHS = [7, 12, 5, 9, 20, 6, 8, 11, 4, 16] * 2


def quiet(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def buffers() -> list[Buffer]:
    """The last three buffers of an agent; their episodes have padding, as those that were logged have."""
    return agent(LENGTHS, 80, 47)


@pytest.fixture
def folder(tmp_path: Path, buffers: list[Buffer]) -> Path:
    return write(tmp_path / "Breakout" / "1" / "replay_logs", buffers)


def pull(folder: Path, choice: Choice = CHOICE, game: str = "breakout") -> Trajectories:
    name = choice.data_id(game)
    dqn_replay.SOURCE.fetch(name, Pull(str(folder), choice=choice, report=quiet))
    return store.read(name)


def frames_of(data: Trajectories, episode: int) -> Any:
    """(T + 1, 84, 84) the frames of an episode, as they lie in the file."""
    assert isinstance(data.states, Frames)
    begin = int(data.offsets[episode]) + episode
    out = np.empty((int(data.lengths[episode]) + 1, 84, 84), np.uint8)
    data.states.read(begin, out)
    return out


def nothing_written(root: Path) -> bool:
    return not [p for p in root.rglob("*") if p.is_file() or p.name.startswith(".")]


def test_what_was_logged_is_written(new_store: Path, tmp_path: Path, folder: Path, buffers: list[Buffer]) -> None:
    made = pull(tmp_path)
    data = store.read(NAME)
    assert data.digest == made.digest
    # By buffer and position, each from its fourth entry on: the first three are padding.
    spans = sorted((n, start, stop) for n, episodes in expected_visits(buffers, CHOICE) for start, stop in episodes)
    assert data.lengths.tolist() == [stop - start - 3 for _, start, stop in spans]
    assert data.terminated.all()
    assert len(data.rewards) >= 60
    assert data.n_actions == 4
    by_number = {b.number: b.arrays for b in buffers}
    for episode, (number, start, stop) in enumerate(spans):
        frames, steps = frames_of(data, episode), slice(*data.offsets[episode : episode + 2])
        first = step_of(by_number[number]["observation"][start + 3])
        numbers = list(range(first, first + stop - start - 3))
        assert [step_of(f) for f in frames] == [*numbers, numbers[-1]]
        assert np.array_equal(frames[:-1], by_number[number]["observation"][start + 3 : stop])
        rows = list(zip(data.actions[steps].tolist(), data.rewards[steps].tolist(), strict=True))
        assert rows == [row_of(step) for step in numbers]
        assert data.returns_to_go[steps].tolist() == [sum(r for _, r in rows[i:]) for i in range(len(rows))]


def test_minari_opens_the_set(new_store: Path, tmp_path: Path, folder: Path) -> None:
    import minari

    made = pull(tmp_path)
    dataset = minari.load_dataset(NAME)
    assert (dataset.total_episodes, dataset.total_steps) == (len(made.lengths), len(made.rewards))
    first = next(iter(dataset.iterate_episodes()))
    assert np.array_equal(first.observations, frames_of(made, 0))


def test_the_origin_records_the_choice_and_no_path(new_store: Path, tmp_path: Path, folder: Path) -> None:
    pull(tmp_path)
    origin = store.sidecar(NAME)["origin"]
    assert origin["location"] == "folder"
    assert origin["rewards"] == "clipped"
    wanted = {"transitions": 60, "seed": 5, "run": 1, "trajectories_per_buffer": 2, "buffers": 3, "window": 100_000}
    assert {key: origin[key] for key in wanted} == wanted
    assert str(tmp_path) not in json.dumps(origin)


def test_logs_without_padding_lose_nothing(new_store: Path, tmp_path: Path) -> None:
    bare = agent([10] * 30, 90, 47, padding=0)
    for b in bare:  # a step that nothing but its picture tells from padding
        b.arrays["action"][:] = 0
        b.arrays["reward"][:] = 0
    data = pull(write(tmp_path / "logs", bare))
    assert data.lengths.tolist() == [10] * len(data.lengths)
    for episode in range(len(data.lengths)):
        numbers = [step_of(f) for f in frames_of(data, episode)]
        assert numbers == [*range(numbers[0], numbers[0] + 10), numbers[0] + 9]


def test_a_black_first_picture_is_kept(new_store: Path, tmp_path: Path) -> None:
    """Q*bert's first screen is black: three entries are padding, the fourth is not, whatever it shows."""
    made = agent([10] * 30, 90, 47)
    for b in made:
        steps = b.arrays["observation"]
        starts = [i for i in range(len(steps)) if steps[i].any() and (i == 0 or not steps[i - 1].any())]
        for kind in ("observation", "action", "reward"):
            b.arrays[kind][starts] = 0
    assert set(pull(write(tmp_path / "logs", made)).lengths.tolist()) == {10}


def test_only_the_window_is_used(
    new_store: Path, tmp_path: Path, folder: Path, buffers: list[Buffer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dqn_replay, "WINDOW", 50)
    choice = Choice(20, 1, trajectories_per_buffer=1, buffers=3)
    data = pull(tmp_path, choice)
    heads = [Buffer(b.number, {kind: a[:50] for kind, a in b.arrays.items()}) for b in buffers]
    spans = sorted((n, *span) for n, spans in expected_visits(heads, choice) for span in spans)
    assert data.lengths.tolist() == [stop - start - 3 for _, start, stop in spans]


@pytest.mark.parametrize("place", [".", "Breakout/1/replay_logs", "dqn/Breakout/1/replay_logs"])
def test_three_layouts_of_folders_are_found(new_store: Path, tmp_path: Path, buffers: list[Buffer], place: str) -> None:
    write(tmp_path / "given" / place, buffers)
    given = pull(tmp_path / "given").digest
    assert given == pull(write(tmp_path / "plain", buffers)).digest == store.read(NAME).digest


def test_the_chosen_run_is_used(new_store: Path, tmp_path: Path, buffers: list[Buffer]) -> None:
    write(tmp_path / "Breakout" / "2" / "replay_logs", buffers)
    with pytest.raises(DataError, match="no files of the DQN-replay logs"):
        pull(tmp_path)
    assert pull(tmp_path, Choice(60, 5, 2, 2, 3)).name == "dqn-replay/breakout/1pct-60-seed5-run2-per2-last3-v0"


def test_another_seed_gives_another_set(new_store: Path, tmp_path: Path, folder: Path) -> None:
    choices = [Choice(60, seed, trajectories_per_buffer=2, buffers=3) for seed in range(6)]
    digests = [pull(tmp_path, choice).digest for choice in choices]
    assert len(set(digests)) > 1
    assert digests == [pull(tmp_path, choice).digest for choice in choices]


def test_a_shard_is_never_in_memory(new_store: Path, tmp_path: Path) -> None:
    """28 MB of frames, with episodes of 0.2 MB."""
    made = agent([30] * 240, 4000, 49, padding=0)
    folder = write(tmp_path / "logs", made[:1])
    del made
    choice = Choice(3600, trajectories_per_buffer=10, buffers=1)
    pull(folder, Choice(10, trajectories_per_buffer=1, buffers=1))  # imports
    tracemalloc.start()
    try:
        name = choice.data_id("breakout")
        dqn_replay.SOURCE.fetch(name, Pull(str(folder), choice=choice, report=quiet))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(store.read(name).rewards) == 3600
    assert peak < 4e6, f"{peak / 1e6:.1f} MB"


def test_no_more_is_read_than_is_needed(new_store: Path, folder: Path, buffers: list[Buffer]) -> None:
    """The file of frames may be cut behind the last one that is wanted."""
    last = max(stop for n, episodes in expected_visits(buffers, CHOICE) for _, stop in episodes if n == 47)
    assert last < 80
    digest = pull(folder).digest
    raw = gzip.decompress((folder / name_of("observation", 47)).read_bytes())
    (folder / name_of("observation", 47)).write_bytes(gzip.compress(raw[: 128 + last * 84 * 84])[:-8])
    assert pull(folder).digest == digest


# What is broken.


@pytest.fixture
def alone(tmp_path: Path) -> tuple[Path, Choice, list[Buffer]]:
    """Logs of which every file is read."""
    buffers = agent([8] * 30, 150, 49)[:1]
    return write(tmp_path / "logs", buffers), Choice(60, trajectories_per_buffer=2, buffers=1), buffers


Alone = tuple[Path, Choice, list[Buffer]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [0, 1, 5, 10, 11, 40, 0.3, 0.6, -9, -8, -4, -1])
def test_a_truncated_shard_is_named(new_store: Path, alone: Alone, kind: str, at: float) -> None:
    folder, choice, _ = alone
    path = folder / name_of(kind, 49)
    content = path.read_bytes()
    kept = content[: int(len(content) * at) if isinstance(at, float) else at]
    path.write_bytes(kept)
    if kind == "observation" and isinstance(at, int) and at < 0:
        assert len(pull(folder, choice).rewards) >= 60, "it has all the frames that are wanted"
        return
    with pytest.raises(DataError, match=r"is truncated|cannot be read") as caught:
        pull(folder, choice)
    message = str(caught.value)
    assert str(path) in message
    assert "get the file again" in message
    assert "\n" not in message
    assert nothing_written(new_store)


def gz(array: Any, **how: Any) -> bytes:
    raw = io.BytesIO()
    np.lib.format.write_array(raw, array, **how)
    return gzip.compress(raw.getvalue())


def header(text: bytes) -> bytes:
    return gzip.compress(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)


def described(shape: str) -> bytes:
    return f"{{'descr': '<i4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"


def changed(array: Any, place: int, value: int) -> Any:
    copy = array.copy()
    copy[place] = value
    return copy


DAMAGE: dict[str, tuple[str, Callable[[Any], bytes], str]] = {
    "no gzip": ("action", lambda a: b"nonsense", "is no gzip file, or is damaged"),
    "a bit": ("reward", lambda a: packed(a)[:-5] + b"\x00" + packed(a)[-4:], "incorrect data check"),
    "no array": ("action", lambda a: gzip.compress(b"\x93NUMPX" + b"0" * 200), "it is no NumPy file"),
    "garbled header": ("action", lambda a: header(b"{'descr': '<i4', "), "cannot be read"),
    "garbled header 2": ("action", lambda a: header(b"((((\n  '"), "cannot be read"),
    "pickled": ("action", lambda a: gz(a.astype(object), allow_pickle=True), "holds object"),
    "64 bits": ("action", lambda a: packed(a.astype(np.int64)), r"holds int64 \(150,\); expected int32 \(n\)"),
    "float64": ("reward", lambda a: packed(a.astype(np.float64)), r"holds float64 .* expected float32"),
    "bool": ("terminal", lambda a: packed(a.astype(bool)), r"holds bool .* expected uint8"),
    "a column": ("action", lambda a: packed(a[:, None]), r"holds int32 \(150, 1\)"),
    "a number": ("reward", lambda a: packed(a[0]), r"holds float32 \(\)"),
    "empty": ("action", lambda a: packed(a[:0]), r"holds int32 \(0,\)"),
    "below 0": ("action", lambda a: header(described("(-3,)")), r"its header has the shape \(-3,\)"),
    "4 GB": ("action", lambda a: header(described("(1000000000,)")), "declares 1,000,000,000 entries in"),
    "4 GB of header": (
        "action",
        lambda a: gzip.compress(b"\x93NUMPY\x02\x00" + (4_000_000_000).to_bytes(4, "little") + b" " * 10**6),
        "its header declares 4,000,000,000 bytes",
    ),
    "one fewer": ("reward", lambda a: packed(a[:-1]), "has 149 entries, another file of the same buffer 150"),
    "too many": ("action", lambda a: gzip.compress(gzip.decompress(packed(a)) + b"x"), "longer than its header says"),
    "colour": ("observation", lambda a: packed(np.repeat(a[..., None], 3, -1)), r"expected uint8 \(n, 84, 84\)"),
    "other size": ("observation", lambda a: packed(a[:, :80]), r"holds uint8 \(150, 80, 84\)"),
    "columns first": ("observation", lambda a: packed(np.asfortranarray(a)), "expected uint8"),
    "frames fewer": ("observation", lambda a: packed(a[:-1]), "has 149 entries"),
    "one action more": ("action", lambda a: packed(changed(a, 77, 4)), "4 at entry 77, but the actions of"),
    "negative": ("action", lambda a: packed(changed(a, 3, -1)), "-1 at entry 3"),
    "raw reward": ("reward", lambda a: packed(a * 4), "rewards are clipped to -1 to 1"),
    "no number": ("reward", lambda a: packed(a * np.float32(np.nan)), "nan at entry 0"),
    "terminal 2": ("terminal", lambda a: packed(a * np.uint8(2)), "terminals are 0 or 1"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_broken_is_named(new_store: Path, alone: Alone, damage: str) -> None:
    folder, choice, buffers = alone
    kind, break_it, said = DAMAGE[damage]
    path = folder / name_of(kind, 49)
    path.write_bytes(break_it(buffers[0].arrays[kind]))
    with pytest.raises(DataError, match=said) as caught:
        pull(folder, choice)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert nothing_written(new_store)


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_file_is_named(new_store: Path, alone: Alone, kind: str) -> None:
    folder, choice, _ = alone
    (folder / name_of(kind, 49)).unlink()
    with pytest.raises(DataError, match="is missing; put it there") as caught:
        pull(folder, choice)
    assert str(folder / name_of(kind, 49)) in str(caught.value)
    assert nothing_written(new_store)


def test_a_folder_without_logs_is_named(new_store: Path, tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "not there"):
        with pytest.raises(DataError, match="no files of the DQN-replay logs") as caught:
            pull(place)
        assert str(place) in str(caught.value)
    assert not new_store.exists()


def test_a_failed_pull_keeps_the_old_set(new_store: Path, alone: Alone) -> None:
    folder, choice, _ = alone
    digest = pull(folder, choice).digest
    path = folder / name_of("observation", 49)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="truncated"):
        pull(folder, choice)
    assert store.read(choice.data_id("breakout")).digest == digest
    assert [p.name for p in new_store.iterdir()] == ["dqn-replay"]


def test_headers_of_python_2_are_read(new_store: Path, alone: Alone, recwarn: pytest.WarningsRecorder) -> None:
    folder, choice, buffers = alone
    digest = pull(folder, choice).digest
    content = gzip.decompress(header(described("(150L,)"))) + buffers[0].arrays["action"].tobytes()
    (folder / name_of("action", 49)).write_bytes(gzip.compress(content))
    assert pull(folder, choice).digest == digest
    assert [w for w in recwarn if issubclass(w.category, UserWarning)] == []


def test_games_have_the_emulators_actions() -> None:
    ale_py = pytest.importorskip("ale_py")
    from ale_py import roms

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    for game, (_, count) in dqn_replay.GAMES.items():
        ale = ale_py.ALEInterface()
        ale.loadROM(roms.get_rom_path(game))
        assert len(ale.getMinimalActionSet()) == count, game
    with pytest.raises(DataError, match="no game 'Pong'; did you mean 'pong'"):
        dqn_replay.SOURCE.resolve("Pong", Pull(), [])


def test_one_buffer_is_read_once(new_store: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it was visited: a gzip stream can only be read from its begin."""
    read: list[str] = []
    real = dqn_replay.Shard.skip

    def skip(shard: Any, count: int) -> None:
        assert count >= 0
        read.append(shard.path.name)
        real(shard, count)

    monkeypatch.setattr(dqn_replay.Shard, "skip", skip)
    choice = Choice(60, 5, trajectories_per_buffer=1, buffers=3)
    visits = dqn_select.select(choice, lambda n: agent(LENGTHS, 80, 47)[n - 47].log())[0]
    assert len(visits) > len({v.buffer for v in visits})
    pull(folder, choice)
    order = [name for name in read if "observation" in name]
    assert order == sorted(order)
    assert framestore.FRAMES == "frames.npy"
