"""What a grid would take on more nodes than anybody here has: a simulation with the cell times of committed records.

    python tools/simulate_cluster.py                               # 100,000 cells on 10, 100 and 1,000 nodes
    python tools/simulate_cluster.py --nodes 1000 --cells 20000
    python tools/simulate_cluster.py --node-days 30 --preempted-days 0.2

A node runs one cell at a time. Cells are drawn from the CPU seconds of the records. Prints the time until the last cell
is done, efficiency (work of the cells over the time that nodes were there), and where the rest went.
docs/explanation/scale.md has the table.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

RECORDS = Path(__file__).parents[1] / "leaderboard" / "published" / "records"
DAY = 86_400.0


@dataclass(frozen=True)
class World:
    """A cluster. Times are seconds."""

    nodes: int
    starts: float = 4.0  # from a free node to the first update of a cell: the engine, and 2.7 of imports
    rate: float = 10.0  # cells a second that the engine starts and the file system lets claim
    checkpoint: float = 30.0  # of work between two checkpoints
    lease: float = 120.0  # until the claim of a failed node is taken over
    fails: float = 264 * DAY  # of one node between two failures
    repair: float = DAY
    preempted: float = DAY  # of one node between two preemptions, each with a checkpoint first
    away: float = 3600.0  # of a preempted node
    array: int = 0  # cells after whose end alone the next ones start, as with --jobs on Slurm; 0: no such limit
    seed: int = 0


@dataclass
class Outcome:
    """What became of a grid. Times are seconds, summed over nodes except for ``makespan``."""

    makespan: float = 0.0
    work: float = 0.0
    lost: float = 0.0
    started: int = 0  # attempts at cells
    away: float = 0.0  # that nodes were not there
    failures: int = 0
    preemptions: int = 0
    waits: list[float] = field(default_factory=list)  # of each attempt for its start

    def efficiency(self, nodes: int) -> float:
        """Work over the time that nodes were there."""
        return self.work / (nodes * self.makespan - self.away)


def simulate(times: Sequence[float], world: World) -> Outcome:
    """Run cells of so many seconds in this order."""
    chance, found = random.Random(world.seed), Outcome(work=sum(times))
    size = world.array or len(times)
    arrays = deque([list(range(start, min(start + size, len(times)))) for start in range(0, len(times), size)])
    left = list(times)
    fresh: deque[int] = deque(arrays.popleft())
    again: list[tuple[float, int]] = []  # when a cell may start again, and which
    outstanding, gate = len(fresh), 0.0
    free: list[tuple[float, int]] = [(0.0, node) for node in range(world.nodes)]
    parked: list[int] = []
    absent: list[tuple[float, float]] = []  # nodes, from and to
    ending: list[tuple[float, int, int, str]] = []  # when, node, cell, how
    while free or ending:
        if ending and (not free or ending[0][0] <= free[0][0]):
            now, node, cell, how = heapq.heappop(ending)
            back = now
            if how == "done":
                found.makespan = now
                outstanding -= 1
            else:
                fails = how == "fails"
                found.failures, found.preemptions = found.failures + fails, found.preemptions + (not fails)
                back = now + (world.repair if fails else world.away)
                absent.append((now, back))
                heapq.heappush(again, (now + (world.lease if fails else 0.0), cell))
            if outstanding == 0 and arrays:
                fresh.extend(arrays.popleft())
                outstanding = len(fresh)
            heapq.heappush(free, (back, node))
            for one in parked:  # each finds work, or is parked again
                heapq.heappush(free, (now, one))
            parked.clear()
            continue
        now, node = heapq.heappop(free)
        if again and again[0][0] <= now:
            cell = heapq.heappop(again)[1]
        elif fresh:
            cell = fresh.popleft()
        else:
            if again:
                heapq.heappush(free, (again[0][0], node))
            elif ending:
                parked.append(node)
            continue
        gate = max(now, gate) + 1 / world.rate
        found.started += 1
        found.waits.append(gate - now)
        begin = gate + world.starts
        lasts = {"done": left[cell], "fails": chance.expovariate(1 / world.fails)}
        lasts["preempted"] = chance.expovariate(1 / world.preempted)
        how = min(lasts, key=lasts.__getitem__)
        if how == "fails":
            kept = lasts[how] // world.checkpoint * world.checkpoint
            found.lost += lasts[how] - kept
        else:
            kept = lasts[how]
        left[cell] -= kept
        heapq.heappush(ending, (begin + lasts[how], node, cell, how))
    found.away = sum(max(0.0, min(back, found.makespan) - gone) for gone, back in absent)
    return found


def measured(suite: str, preset: str) -> list[float]:
    """CPU seconds of the committed cells that are done, in the order of their keys."""
    found = []
    for path in sorted(RECORDS.rglob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        cell = record["identity"]
        if (
            record["status"] == "done"
            and (cell["suite"], cell["preset"]) == (suite, preset)
            and "trial" not in cell["variant"]
        ):
            found.append(float(record["cost"]["cpu_seconds"]))
    return found


def cases(world: World) -> dict[str, World]:
    """Names of what is changed."""
    return {
        "no failures, no preemptions": replace(world, fails=1e15, preempted=1e15),
        "ten times the failures": replace(world, fails=world.fails / 10),
        "ten times the preemptions": replace(world, preempted=world.preempted / 10),
        "one cell a second starts": replace(world, rate=1.0),
        "a cell starts within 20 s": replace(world, starts=20.0),
        "arrays of 1,000 one after another": replace(world, array=1000),
    }


def line(name: str, nodes: int, found: Outcome) -> str:
    """A row of the table."""
    waits = sorted(found.waits)
    return (
        f"| {nodes:,} | {name} | {found.makespan / 3600:,.1f} | {100 * found.efficiency(nodes):.1f} % "
        f"| {100 * found.lost / found.work:.3f} % | {found.failures:,} | {found.preemptions:,} "
        f"| {found.started / found.makespan:.2f} | {waits[len(waits) // 2]:.1f} |"
    )


def main() -> None:
    """Print a table for each number of nodes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--nodes", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--suite", default="d4rl")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--node-days", type=float, default=World.fails / DAY, help="days of a node between failures")
    parser.add_argument("--preempted-days", type=float, default=World.preempted / DAY)
    parser.add_argument("--rate", type=float, default=World.rate, help="cells a second that start")
    told = parser.parse_args()
    known = measured(told.suite, told.preset)
    mean = sum(known) / len(known)
    print(f"{len(known)} measured cells: mean {mean:.0f} s, shortest {min(known):.0f}, longest {max(known):.0f}\n")
    print("| nodes | case | hours | efficiency | lost work | failures | preemptions | starts a second | wait, s |")
    print("|---:|---|---:|---:|---:|---:|---:|---:|---:|")
    chance = random.Random(0)
    times = [chance.choice(known) for _ in range(told.cells)]
    rates = {"fails": told.node_days * DAY, "preempted": told.preempted_days * DAY, "rate": told.rate}
    for nodes in told.nodes:
        for factor in (1, 10, 100):
            longer = [factor * time for time in times]
            print(line(f"cells of {factor * mean:,.0f} s", nodes, simulate(longer, World(nodes, **rates))), flush=True)
    world, longer = World(max(told.nodes), **rates), [10 * time for time in times]
    for name, changed in cases(world).items():
        print(line(f"{10 * mean:,.0f} s, {name}", world.nodes, simulate(longer, changed)), flush=True)
    longer.sort(reverse=True)
    print(line(f"{10 * mean:,.0f} s, longest first", world.nodes, simulate(longer, world)))


if __name__ == "__main__":
    main()
