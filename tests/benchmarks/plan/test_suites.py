"""The tables of suites: the ones that come with Backbench, and files of a user's own with what can be wrong in them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import yaml
from planning import GYM_ONLY
from planning import cells as planned

from backbench.benchmarks.environments.observe import Observe
from backbench.benchmarks.environments.vector import GymBatch
from backbench.benchmarks.plan import suites
from backbench.benchmarks.plan.compose import presets
from backbench.errors import UserError
from backbench.leaderboard.record.suites import NORMALISERS, REFERENCES, SUITES
from backbench.leaderboard.scores.normalise import bounds

OWN: dict[str, Any] = {
    "max_steps": 20,
    "return_scale": 10,
    "tasks": {
        "walk-short": {"sources": {"local": {"env_id": "lands:Walk-v0", "data_id": "me/walk/short-v0"}}},
        "walk-far": {
            "max_steps": 40,
            "sources": {
                "local": {
                    "env_id": "lands:Walk-v0",
                    "data_id": "me/walk/far-v3",
                    "targets": [-1, -5.5],
                    "env_kwargs": {"goal": 30.0},
                    "return_scale": 100,
                }
            },
        },
    },
}


# Aliases within aliases: 10^8 values in the arguments of an environment.
BOMB = (
    "x: &a0 [1, 1]\n"
    + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
    + ("tasks: {t: {sources: {local: {env_id: Pendulum-v1, data_id: me/p-v0, env_kwargs: {x: *a8}}}}}\n")
)


def written(folder: Path, content: Any, name: str = "mine.yaml") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return path


def changed(**changes: Any) -> dict[str, Any]:
    """``OWN`` with values at dotted places; None removes."""
    content = copy.deepcopy(OWN)
    for place, value in changes.items():
        inner = content
        *path, last = (part.replace("walk_", "walk-") for part in place.split("__"))
        for part in path:
            inner = inner[part]
        if value is None:
            del inner[last]
        else:
            inner[last] = value
    return content


def test_tables_and_the_leaderboard_s_list_agree() -> None:
    assert suites.built_in() == sorted(SUITES)
    for suite in suites.built_in():
        table = suites.table(suite)
        assert tuple(table.tasks) == SUITES[suite]
        assert table.description
        assert table.normaliser == NORMALISERS[suite]
        for name in table.tasks:
            assert (table.tasks[name].reference or None) == REFERENCES.get(suite, {}).get(name)
            assert bounds(table.normaliser, name, table.tasks[name].reference) is not None
            for source in table.tasks[name].sources:
                assert suites.resolve(suite, name, source).suite_tasks == ()


@pytest.mark.parametrize("suite", ["d4rl-adroit", "d4rl-antmaze", "d4rl-pointmaze", "mujoco"])
def test_environments_of_each_suite_can_be_played(suite: str) -> None:
    if suite != "mujoco":
        pytest.importorskip("gymnasium_robotics")
    sizes: dict[str, set[Any]] = {}
    for name in suites.names(suite):
        task = suites.resolve(suite, name, "minari")
        batch = GymBatch(task.env_id, 1, task.env_kwargs)
        states = batch.reset([0])
        size = (states.shape[1], len(batch.actions.low), batch.actions.unit)
        sizes.setdefault(name.split("-")[0], set()).add(size)
        batch.close()
    # Fu et al. 2020; AntMaze of Gymnasium-Robotics keeps the position and the goal beside 27 other numbers.
    known = {
        "pen": (45, 24), "door": (39, 28), "hammer": (46, 26), "relocate": (39, 30), "antmaze": (31, 8),
        "pointmaze": (8, 2), "halfcheetah": (17, 6), "hopper": (11, 3), "walker2d": (17, 6),
    }  # fmt: skip
    assert sizes == {name: {(*known[name], True)} for name in sizes}


def test_ends_of_a_maze_are_d4rl_s() -> None:
    """An episode of AntMaze ends at the goal, one of PointMaze goes on and earns there."""
    pytest.importorskip("gymnasium_robotics")
    mazes = [(name, True) for name in suites.names("d4rl-antmaze")]
    mazes += [(name, False) for name in suites.names("d4rl-pointmaze") if "dense" not in name]
    for name, ends in mazes:
        task = suites.resolve(f"d4rl-{name.split('-')[0]}", name, "minari")
        env = GymBatch(task.env_id, 1, task.env_kwargs).envs[0]
        goals = [env.reset(seed=seed)[0]["desired_goal"] for seed in range(4)]
        assert env.compute_terminated(goals[0], goals[0], {}) is ends
        assert env.compute_reward(goals[0], goals[0], {}) == 1.0
        assert max(abs(goals[0] - goal).max() for goal in goals) <= 0.5 * env.maze.maze_size_scaling  # one cell
        # The maze is the one of the environment's own map, which the data were gathered in; only its ends are marked.
        own = gym.spec(task.env_id.partition(":")[2]).kwargs["maze_map"]
        walls = [[cell == 1 for cell in row] for row in task.env_kwargs["maze_map"]]
        assert walls == [[cell == 1 for cell in row] for row in own]
    assert suites.resolve("d4rl-adroit", "pen-human", "minari").max_steps == 100
    assert suites.resolve("d4rl-pointmaze", "pointmaze-large", "minari").max_steps == 800


def test_minari_s_medium_is_another_data_set_of_another_environment() -> None:
    theirs, d4rl = (suites.resolve("d4rl", "hopper-medium", source) for source in ("minari", "d4rl"))
    assert (theirs.env_id, d4rl.env_id) == ("Hopper-v5", "Hopper-v4")
    assert theirs.data_id == suites.resolve("mujoco", "hopper-medium", "minari").data_id != d4rl.data_id


def test_a_file_of_one_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "suites", OWN)
    far = suites.resolve(str(path), "walk-far", "local")
    assert (far.suite, far.data_id, far.targets) == ("mine", "me/walk/far-v3", (-1.0, -5.5))
    assert (far.max_steps, far.return_scale, far.env_kwargs) == (40, 100.0, {"goal": 30.0})
    assert (far.normaliser, far.reference, far.suite_tasks) == ("none", (), ("walk-short", "walk-far"))
    short = suites.resolve(str(path), "walk-short", "local")
    assert (short.targets, short.max_steps, short.return_scale) == ((), 20, 10.0)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(UserError, match="unknown suite 'mine'"):
        suites.table("mine")
    monkeypatch.chdir(tmp_path)
    assert suites.resolve("mine", "walk-far", "local") == far
    assert "mine" in suites.suites()
    monkeypatch.chdir("/")
    monkeypatch.setenv(suites.VARIABLE, f"/nowhere:{tmp_path / 'suites'}")
    assert suites.resolve("mine", "walk-far", "local") == far
    assert suites.data_ids("walk-far", "local") == ["me/walk/far-v3"]
    written(tmp_path / "suites", changed(tasks__walk_far=None))
    assert suites.names("mine") == ["walk-short"]  # read anew


def test_its_cells(tmp_path: Path) -> None:
    path = written(tmp_path, changed(source="local"))
    cells = planned(["mlp"], str(path), "smoke", [0])
    assert [(c.task.name, c.data.source) for c in cells] == [("walk-short", "local"), ("walk-far", "local")]
    with pytest.raises(UserError, match=r"unknown data source 'minari' of task 'walk-short'; known: local"):
        planned(["mlp"], str(path), "smoke", [0], source="minari")
    with pytest.raises(UserError, match="'embedded' of task 'walk-short'"):
        planned(["mlp"], str(written(tmp_path, OWN)), "smoke", [0])
    with pytest.raises(UserError, match="unknown data source 'd4rl'"):
        planned(["mlp"], str(path), "smoke", [0], overrides=["data.source=d4rl"])


def test_a_suite_declares_settings_which_the_user_s_own_replace(tmp_path: Path) -> None:
    declared = {
        "source": "local",
        "settings": ["data.windows=episode", "model.context=7"],
        "tasks__walk_far__settings": ["model.context=9"],
    }
    path = str(written(tmp_path, changed(**declared)))
    found = [(c.model.context, c.data.windows, c.variant) for c in planned(["mlp"], path, "smoke", [0])]
    assert found == [(7, "episode", ""), (9, "episode", "")]
    asked = planned(["mlp"], path, "smoke", [0], overrides=["model.context=4"])
    assert [(c.model.context, c.data.windows, c.variant) for c in asked] == [(4, "episode", "model.context=4")] * 2
    for setting, said in (
        ("train.lrr=1", "suite 'mine': settings: unknown override key 'train.lrr' for backbone 'mlp'; did you mean"),
        ("train.lr=fast", "suite 'mine': settings: override 'train.lr=fast': 'fast' is not a number"),
        ("train.lr", "suite 'mine': settings: override 'train.lr': write train.lr=value"),
    ):
        path = str(written(tmp_path, changed(source="local", settings=[setting])))
        with pytest.raises(UserError, match=re.escape(said)):
            planned(["mlp"], path, "smoke", [0], overrides=["train.steps=3"])


BAD: list[tuple[Any, str]] = [
    (changed(settings="train.lr=1"), "settings: input should be a valid tuple"),
    ("tasks: [", "mine.yaml is not valid YAML"),
    ("tasks: 2001-99-99", "month must be in 1..12); write it in quotes"),
    ("tasks: 2001-01-01", "tasks is a date; write it in quotes"),
    ("? [a, list]\n: 3", "has a list or mapping as a key at line 1"),
    ("tasks: {2024: {}}", "has the key 2024 that is no text in tasks; write it in quotes"),
    ("tasks: " + "[" * 5000, "more than 64 levels"),
    (BOMB, "is YAML of more than 20,000 values"),
    ("just words", "give a mapping with the key tasks"),
    ({"max_steps": 3}, "tasks: field required"),
    ({"tasks": {}}, "tasks: dictionary should have at least 1 item"),
    (changed(max_step=5), "unknown key max_step; did you mean 'max_steps'"),
    (changed(tasks__walk_far__sources__local__env=5), "unknown key tasks.walk-far.sources.local.env"),
    (changed(tasks__walk_far__sources__local__env_id=None), "tasks.walk-far.sources.local.env_id: field required"),
    (changed(tasks__walk_far__sources__local__data_id="../x-v0"), "data_id: string should match pattern"),
    (changed(tasks__walk_far__sources__local__data_id="x"), "data_id: string should match pattern"),
    (changed(tasks__walk_far__sources__local__targets=[]), "targets"),
    (changed(tasks__walk_far__sources__local__targets=[float("nan")]), "targets"),
    (changed(tasks__walk_far__sources__local__targets="datum"), "targets"),
    (changed(tasks__walk_far__sources__here={"env_id": "a", "data_id": "b-v0"}), "sources.here: no such data source"),
    (changed(max_steps=0), "max_steps: input should be greater than or equal to 1"),
    (changed(return_scale=0), "return_scale: input should be greater than 0"),
    (changed(normaliser="d4rl"), "no D4RL reference scores for 'walk-short'"),
    (changed(normaliser="minmax"), "normaliser 'minmax'"),
    (changed(normaliser="declared"), "tasks.walk-short.reference: give two different returns"),
    (changed(tasks__walk_far__reference=[0, 1]), "tasks.walk-far.reference goes with normaliser: declared"),
    (changed(source="minari"), "has no source 'minari', which is the suite's"),
    (changed(name="x"), "its name is the file's"),
    (changed(tasks__walk_far__sources__local__targets=[1, 2, 1.0]), "local.targets: the same target twice"),
    (
        changed(tasks__walk_far__sources__local__return_scale={"raw": 1}, rewards="mixed"),
        "local.return_scale: none for mixed, which has targets",
    ),
    (
        changed(pixels=True),
        "tasks.walk-short.sources.local.env_id: lands:Walk-v0 is not an Atari environment; give ALE/<Game>-v5",
    ),
    (
        changed(tasks__walk_far__sources__d4rl={"env_id": "Hopper-v4", "data_id": "d4rl/hopper/medium-v2"}),
        "walk-far.sources.d4rl: a suite of your own has local and minari",
    ),
    ("tasks: {a: {}}\nmax_steps: 3\ntasks: {b: {}}", "the key 'tasks' twice"),
    (changed(observe={}), "observe: give keep, missing or both"),
    (changed(observe=[1]), "observe: input should be a valid dictionary"),
    (changed(observe={"keeps": [1]}), "unknown key observe.keeps; did you mean 'keep'"),
    (changed(observe={"keep": []}), "observe.keep: give positions, or a list of indices from 0, such as [0, 1, 4]"),
    (changed(observe={"keep": "velocities"}), "observe.keep: give positions, or a list"),
    (changed(observe={"keep": [0, True]}), "observe.keep: give positions, or a list"),
    (changed(observe={"keep": [0, 1.5]}), "observe.keep: give positions, or a list"),
    (changed(observe={"keep": [-1]}), "observe.keep: give positions, or a list"),
    (changed(tasks__walk_far__observe={"keep": [3, 0, 3]}), "tasks.walk-far.observe.keep: the index 3 is there twice"),
    (changed(observe={"missing": 0}), "observe.missing: input should be greater than 0"),
    (changed(observe={"missing": 1}), "observe.missing: input should be less than 1"),
    (changed(observe={"missing": float("nan")}), "has a number that is not finite: observe.missing"),
    (
        changed(tasks__walk_far__observe={"keep": "positions"}),
        "tasks.walk-far.sources.local: observe.keep: the positions of lands:Walk-v0 are not known; give a list",
    ),
    (changed(tune={"tasks": ["walk-fast"]}), "tune.tasks: no task 'walk-fast'; did you mean 'walk-far'"),
    (changed(tune={"tasks": []}), "tune.tasks: tuple should have at least 1 item"),
    (changed(tune={"task": ["walk-far"]}), "unknown key tune.task; did you mean 'tasks'"),
    (
        changed(tasks__walk_far__sources__local__longer={"n": 2}, tasks__walk_far__sources__local__env_kwargs={"n": 3}),
        "tasks.walk-far.sources.local.longer.n is not what env_kwargs has",
    ),
    (changed(presets="memry"), "presets: 'memry' has none; did you mean 'memory'"),
    (
        changed(tasks__walk_far__sources__local__longer={"length": 0}),
        "longer.length: input should be greater than or eq",
    ),
    ("like: d4lr", "like: no suite of Backbench is called 'd4lr'; did you mean 'd4rl'"),
    ("like: ../preset/quick", "like: no suite of Backbench is called '../preset/quick'"),
    ("like: [d4rl]", 'like: no suite of Backbench is called "['),
    ("like: atari\nobserve: {missing: 0.5}", "tasks.breakout: observe is for vectors, and the suite has pixels"),
    (
        "like: d4rl\ntasks: {hopper-medium: {sources: {embedded: {env_id: Hopper-v5, data_id: a/b-v0}}}}",
        "tasks.hopper-medium.sources.embedded: a suite of your own has local and minari",
    ),
]


@pytest.mark.parametrize(("content", "said"), BAD)
def test_what_is_wrong_is_one_line_that_names_the_place(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises(UserError) as caught:
        suites.table(str(written(tmp_path, content)))
    assert said in str(caught.value)
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_filter_of_a_task_replaces_that_of_its_suite(tmp_path: Path) -> None:
    def filters(content: dict[str, Any]) -> list[Observe | None]:
        path = str(written(tmp_path, content))
        return [suites.resolve(path, name, "local").observe for name in ("walk-short", "walk-far")]

    assert filters(OWN) == [None, None]
    both = changed(observe={"keep": [2, 0]}, tasks__walk_far__observe={"missing": 0.25})
    assert filters(both) == [Observe(keep=(2, 0)), Observe(missing=0.25)]
    both["tasks"]["walk-far"]["observe"] = None
    assert filters(both) == [Observe(keep=(2, 0)), None]


@pytest.mark.parametrize("suite", ["memory", "memory-seen", "memory-length", "memory-long"])
def test_smoke_takes_seconds_whatever_a_suite_declares(suite: str) -> None:
    for cell in planned(["mlp"], suite, "smoke", [0]):
        assert (cell.train.steps, cell.train.batch_size, cell.eval.episodes, cell.model.d_model) == (10, 4, 10, 32)
        assert cell.data.windows == "episode"
    task = next(iter(SUITES[suite]))
    (asked,) = planned(["mlp"], suite, "smoke", [0], [task], overrides=["eval.episodes=7"])
    assert asked.eval.episodes == 7


def test_a_suite_like_another_changes_what_it_names(tmp_path: Path) -> None:
    path = str(written(tmp_path, "like: d4rl-positions\nobserve: {keep: positions, missing: 0.1}\nmax_steps: 300"))
    ours = suites.resolve(path, "hopper-medium", "embedded")
    theirs = suites.resolve("d4rl", "hopper-medium", "embedded")
    assert ours.observe == Observe((0, 1, 2, 3, 4), 0.1)
    assert (ours.suite, ours.max_steps, ours.suite_tasks) == ("mine", 300, SUITES["d4rl"])
    assert (ours.data_id, ours.targets, ours.normaliser) == (theirs.data_id, theirs.targets, "d4rl")
    (cell,) = planned(["mlp"], path, "smoke", [0], ["hopper-medium"])
    assert cell.environment.observe == ours.observe


def test_a_suite_like_another_has_its_trials_only_with_its_tasks(tmp_path: Path) -> None:
    task = "{walk: {sources: {local: {env_id: Walk-v0, data_id: mine/walk-v0}}}}"
    own = written(tmp_path, f"like: d4rl\nnormaliser: none\ntasks: {task}")
    assert suites.table(str(own)).tune is None
    same = suites.table(str(written(tmp_path, "like: d4rl\nmax_steps: 300", "same.yaml")))
    assert same.tune == suites.table("d4rl").tune is not None


def test_a_broken_neighbour_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path / "suites", OWN)
    written(tmp_path / "suites", "tasks: [", "broken.yaml")
    written(tmp_path / "suites", "", ".hidden.yaml")
    written(tmp_path / "suites", OWN, "d4rl.yaml")
    (tmp_path / "suites" / "dangling.yaml").symlink_to("nowhere.yaml")
    monkeypatch.chdir(tmp_path)
    assert [one.name for one in suites.tables()] == [*suites.built_in(), "mine"]
    assert suites.data_ids("walk-far", "local") == ["me/walk/far-v3"]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "broken.yaml is not valid YAML" in said[1]
    assert "d4rl.yaml is skipped" in said[0]
    with pytest.raises(UserError, match=r"broken\.yaml is not valid YAML"):
        suites.table("broken")


def test_names_and_paths_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no file .*other.yaml of a suite"):
        suites.table(str(tmp_path / "other.yaml"))
    with pytest.raises(UserError, match="'d4rl' is the name of a suite of Backbench"):
        suites.table(str(written(tmp_path, OWN, "d4rl.yaml")))
    with pytest.raises(UserError, match=r"unknown suite 'd4rll'; did you mean 'd4rl'.*suites/d4rll.yaml"):
        suites.table("d4rll")


def test_bench_lists_them(bench: Callable[..., Any], tmp_path: Path) -> None:
    written(tmp_path / "suites", OWN)
    listed = bench("list", "suites").out
    assert "d4rl-antmaze       6 tasks  ant through mazes" in listed
    assert listed.splitlines()[-1].split() == ["mine", "2", "tasks"]
    assert "mine             walk-far                     data: local" in bench("list", "tasks").out


@pytest.mark.parametrize(
    ("overrides", "limits"),
    [((), (20, 40)), (("eval.max_steps=30",), (30, 30)), (("eval.max_steps=0",), (20, 40))],
    ids=["a preset's limit is a cap", "an override is what was asked for", "zero is the task's own"],
)
def test_a_preset_never_lengthens_an_episode(
    tmp_path: Path, overrides: tuple[str, ...], limits: tuple[int, ...]
) -> None:
    """Preset smoke plays at most 100 steps, and these tasks 20 and 40."""
    cells = planned(["mlp"], str(written(tmp_path, OWN)), "smoke", [0], source="local", overrides=overrides)
    assert tuple(cell.max_steps for cell in cells) == limits


@pytest.mark.parametrize(
    ("suite", "preset"),
    [(suite, preset) for suite in suites.built_in() for preset in presets() if (suite, preset) not in GYM_ONLY],
)
def test_no_preset_plays_longer_than_the_suite_s_limit(suite: str, preset: str) -> None:
    cells = planned(["mlp"], suite, preset, [0])
    assert [cell.key for cell in cells if cell.max_steps > cell.task.max_steps] == []


def test_a_preset_shortens_the_episodes_of_longer_tasks() -> None:
    cells = planned(["mlp"], "d4rl", "smoke", [0]) + planned(["mlp"], "atari", "smoke", [0])
    assert {(cell.task.suite, cell.max_steps, cell.eval.max_steps) for cell in cells} == {
        ("d4rl", 100, 100), ("atari", 50, 50),
    }  # fmt: skip


@pytest.mark.parametrize(("suite", "source"), [("d4rl", "d4rl"), ("memory", None)])
def test_a_size_for_data_of_one_size_is_refused(suite: str, source: str | None) -> None:
    with pytest.raises(UserError, match=r"^override 'data\.steps=5': data set '.+' has one size; remove it$"):
        planned(["mlp"], suite, "smoke", [0], source=source, overrides=["data.steps=5"])
