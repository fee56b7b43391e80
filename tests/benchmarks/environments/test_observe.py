"""The filter of observations: what is kept, how often an observation is missing, and on what that depends."""

from __future__ import annotations

import hashlib
from typing import Any

import lands  # noqa: F401  # registers Walk
import numpy as np
import pytest

from backbench.benchmarks.environments.kind import EnvironmentSpec, Sizes
from backbench.benchmarks.environments.observe import DATA, PLAYED, POSITIONS, Observe, positions
from backbench.benchmarks.environments.vector import VECTOR, GymBatch, make_environment
from backbench.errors import UserError

HALF = Observe(missing=0.5)
STATES = np.arange(12, dtype=np.float32).reshape(3, 4) + 1


def test_the_chosen_numbers_come_in_the_order_given() -> None:
    seen = Observe(keep=(2, 0)).episode(DATA, 0)(STATES)
    assert seen.tolist() == [[3, 1], [7, 5], [11, 9]]
    assert (seen.dtype, seen.flags.c_contiguous) == (np.float32, True)


def test_a_missing_observation_is_zeros_and_the_last_number_tells() -> None:
    states = np.random.default_rng(0).uniform(1, 2, (400, 3)).astype(np.float32)
    seen = Observe(keep=(1, 2), missing=0.5).episode(PLAYED, 7)(states)
    there = seen[:, -1] == 1
    assert (seen.shape, seen.dtype) == ((400, 3), np.float32)
    assert 0 < there.sum() < 400
    assert np.array_equal(seen[there, :-1], states[there, 1:])
    assert not seen[~there].any()


@pytest.mark.parametrize("missing", [0.05, 0.5, 0.9])
def test_observations_are_missing_as_often_as_asked_for_and_independently(missing: float) -> None:
    one = np.ones((100, 1))
    gone = np.stack([Observe(missing=missing).episode(DATA, number)(one)[:, 1] == 0 for number in range(1000)])
    assert gone.mean() == pytest.approx(missing, abs=0.006)  # four standard errors and more
    after = gone[:, 1:][gone[:, :-1]]
    assert after.mean() == pytest.approx(missing, abs=0.02), "after a gap a gap is as likely as ever"
    assert gone[:, 0].mean() == pytest.approx(missing, abs=0.07), "the first step is as any other"


def test_a_gap_depends_on_the_seed_and_the_step_alone() -> None:
    ones = np.ones((64, 2))
    complete = HALF.episode(PLAYED, 5)(ones)
    step_by_step = HALF.episode(PLAYED, 5)
    assert np.array_equal(complete, np.concatenate([step_by_step(ones[:1]) for _ in range(64)]))
    for salt, seed in ((PLAYED, 6), (DATA, 5)):
        assert not np.array_equal(complete, HALF.episode(salt, seed)(ones))
    fewer = Observe(missing=0.25).episode(PLAYED, 5)(ones)
    assert (fewer[:, -1] >= complete[:, -1]).all(), "with a smaller share, gaps only close"


def test_the_gaps_never_change() -> None:
    """Records depend on them: a change here makes all scores with ``missing`` incomparable."""
    there = [HALF.episode(salt, seed)(np.ones((1000, 1)))[:, 1] for salt in (DATA, PLAYED) for seed in (0, 2**32 - 1)]
    assert hashlib.sha256(np.stack(there).astype(np.uint8).tobytes()).hexdigest()[:16] == "12db171330857d92"


@pytest.mark.parametrize("name", sorted(POSITIONS))
@pytest.mark.parametrize("version", [4, 5])
def test_positions_are_those_of_the_simulator(name: str, version: int) -> None:
    env_id = f"{name}-v{version}"
    env = make_environment(env_id)
    first, _ = env.reset(seed=1)
    kept = positions(env_id, ())
    assert kept == tuple(range(POSITIONS[name]))
    hidden = env.model.nq - len(kept)
    np.testing.assert_array_equal(first[list(kept)], env.data.qpos[hidden:])
    np.testing.assert_allclose(first[len(kept) :][: env.model.nv], env.data.qvel, err_msg="velocities follow")
    if version == 5:
        assert env.observation_structure["qpos"] == len(kept)


@pytest.mark.parametrize(
    ("env_id", "arguments"),
    [
        ("Pendulum-v1", {}), ("Hopper-v3", {}), ("Hopper", {}), ("own:Hopper-v5", {}), ("Reacher-v5", {}),
        ("Hopper-v5", {"exclude_current_positions_from_observation": False}), ("Hopper-v5", {"xml_file": "my.xml"}),
    ],
)  # fmt: skip
def test_positions_that_are_not_known_for_sure_are_unknown(env_id: str, arguments: dict[str, Any]) -> None:
    assert positions(env_id, arguments) == ()
    assert positions("Hopper-v5", {"reset_noise_scale": 0.1}) == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"keep": (1, 1)}, "observe.keep: an index is there twice"),
        ({"keep": (0, -1)}, "observe.keep: give indices from 0"),
        ({"missing": 1.0}, "observe.missing=1.0: give a share above 0 and below 1"),
        ({"missing": float("nan")}, "observe.missing=nan"),
    ],
)
def test_a_filter_that_cannot_be_is_refused(how: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Observe(**how)


SEEN = Observe(keep=(1, 0, 4), missing=0.5)


def played(batch: GymBatch, seeds: list[int], leave: dict[int, int], steps: int = 12) -> dict[int, list[Any]]:
    """The observations of each environment; environment e ends after ``leave[e]`` steps."""
    rng = np.random.default_rng(0)
    found = {number: [state] for number, state in enumerate(batch.reset(seeds))}
    for step in range(steps):
        actions = rng.uniform(-1, 1, (len(seeds), 3)).astype(np.float32)
        running = [number for number in found if leave.get(number, steps) > step]
        for number, state in zip(running, batch.step(running, actions[running])[0], strict=True):
            found[number].append(state)
    return found


def test_an_episode_has_the_same_gaps_whichever_others_still_run() -> None:
    full, seen = (played(GymBatch("Hopper-v5", 3, observe=one), [3, 4, 3], {}) for one in (None, SEEN))
    part = played(GymBatch("Hopper-v5", 3, observe=SEEN), [3, 4, 3], {0: 2, 1: 7})
    alone = played(GymBatch("Hopper-v5", 3, observe=SEEN), [3, 4, 3], {0: 0, 1: 0})
    for number in range(3):
        there = np.stack(seen[number])[:, -1] == 1
        assert 0 < there.sum() < 13
        assert np.array_equal(np.stack(seen[number])[there, :-1], np.stack(full[number])[there][:, [1, 0, 4]])
        assert np.array_equal(part[number], seen[number][: len(part[number])])
    assert np.array_equal(alone[2], seen[2])
    gaps = [[state[-1] for state in seen[number]] for number in range(3)]
    assert gaps[0] == gaps[2] != gaps[1], "equal seeds have equal gaps"


def test_a_kind_of_environment_tells_its_filter() -> None:
    plain, spec = EnvironmentSpec("Hopper-v5"), EnvironmentSpec("Hopper-v5", {"reset_noise_scale": 0.1}, observe=SEEN)
    assert VECTOR.sizes(spec) == Sizes((4,), None, 3)
    assert VECTOR.conventions(plain) == {}
    seen = {"keep": [1, 0, 4], "missing": 0.5}
    assert VECTOR.conventions(spec) == {"reset_noise_scale": 0.1, "observe": seen}
    VECTOR.check_data(spec, "x", Sizes((11,), None, 3), None)  # of unfiltered data
    with pytest.raises(UserError, match=r"has states \(4,\) and 3 actions, environment Hopper-v5 has states 11"):
        VECTOR.check_data(spec, "x", Sizes((4,), None, 3), None)


def test_mappings_become_a_vector_before_they_are_filtered() -> None:
    batch = GymBatch("lands:Walk-v0", 1, {"goal": 4.0}, Observe(keep=(1,)))
    assert batch.reset([0]).tolist() == [[4.0]]  # the desired goal


def test_an_index_outside_the_observation_is_refused() -> None:
    with pytest.raises(UserError, match=r"environment Hopper-v5: observe.keep has 11, and .* 11 numbers: give 0 to 10"):
        GymBatch("Hopper-v5", 1, observe=Observe(keep=(3, 11)))
