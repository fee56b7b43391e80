"""How often two machines that do not differ, or that do, get each verdict of ``bench verify``, by simulation.

The board's seeds spread with a standard deviation of 2 to 6 in their mean over nine tasks. The documentation has the
table that this prints.
"""

from collections import Counter

import numpy as np

from backbench.leaderboard.board.agreement import MARGIN, agreement

TRIALS = 2000
SEEDS = ((3, 3), (3, 10), (5, 5), (10, 10), (20, 20))
SPREADS = (2.0, 2.5, 5.0)
SHIFTS = (0.0, 3.0, 6.0)


def shares(seeds: tuple[int, int], spread: float, shift: float, trials: int = TRIALS) -> Counter[str]:
    """Verdict -> share of ``trials``, for machines whose means differ by ``shift``."""
    rng = np.random.default_rng(0)
    found: Counter[str] = Counter()
    for _ in range(trials):
        ours, theirs = (rng.normal(mean, spread, (n, 1)).tolist() for n, mean in zip(seeds, (0, shift), strict=True))
        result = agreement(ours, theirs)
        assert result is not None
        found[result.verdict] += 1
    return Counter({name: count / trials for name, count in found.items()})


if __name__ == "__main__":
    print(f"margin {MARGIN:g}; shares of {TRIALS} trials: verified / consistent / different")
    print("| seeds | deviation of a seed | " + " | ".join(f"shift {shift:g}" for shift in SHIFTS) + " |")
    print("|---|---|" + "---|" * len(SHIFTS))
    for seeds in SEEDS:
        for spread in SPREADS:
            said = [shares(seeds, spread, shift) for shift in SHIFTS]
            cells = [" / ".join(f"{one[name]:.2f}" for name in ("verified", "consistent", "different")) for one in said]
            print(f"| {seeds[0]} and {seeds[1]} | {spread:g} | " + " | ".join(cells) + " |")
