"""The simulation of a cluster has the times that can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulate_cluster import World, measured, simulate

CALM = World(nodes=1, starts=4.0, rate=1e9, fails=1e15, preempted=1e15)


def test_one_node_works_through_its_cells() -> None:
    found = simulate([10.0, 20.0], CALM)
    assert found.makespan == pytest.approx(38)
    assert found.efficiency(1) == pytest.approx(30 / 38)
    assert (found.started, found.lost, found.away) == (2, 0, 0)


def test_two_nodes_end_with_the_longer_one_and_the_engine_starts_one_at_a_time() -> None:
    assert simulate([10.0, 20.0], replace(CALM, nodes=2)).makespan == pytest.approx(24)
    assert simulate([10.0, 20.0], replace(CALM, nodes=2, rate=0.1)).makespan == pytest.approx(44)


def test_arrays_wait_for_the_slowest_cell_of_the_one_before() -> None:
    times = [10.0, 50.0, 10.0, 50.0]
    assert simulate(times, replace(CALM, nodes=2, array=2)).makespan == pytest.approx(108)
    assert simulate(times, replace(CALM, nodes=2)).makespan == pytest.approx(82)


def test_failures_lose_work_and_preemptions_do_not() -> None:
    times = [1000.0] * 40
    failing = simulate(times, replace(CALM, nodes=4, fails=5000.0, repair=100.0))
    assert failing.failures > 0
    assert 0 < failing.lost < failing.failures * CALM.checkpoint
    assert failing.started == 40 + failing.failures
    preempted = simulate(times, replace(CALM, nodes=4, preempted=5000.0, away=100.0))
    assert preempted.preemptions > 0
    assert preempted.lost == 0
    assert preempted.work + preempted.started * CALM.starts + preempted.away <= 4 * preempted.makespan
    assert 0 < preempted.away <= 100 * preempted.preemptions


def test_committed_records_give_times() -> None:
    assert len(measured("d4rl", "quick")) > 100
