"""What columns and plots are called, which way is better, and the sentences beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backbench.leaderboard.board import notes

PURPOSE = (
    "Which sequence backbone makes the best decision maker, and at what cost? Interchangeable backbones are trained as "
    "return-conditioned policies on the same offline trajectories and played in the same environments; everything but "
    "the backbone is shared."
)
VERIFIED = "A second machine ran the same cells from their records and came to the same scores."
SELF_REPORTED = "One machine's word: nobody has repeated all of its cells elsewhere yet."
SCORES = (
    "Points: 0 is random play and 100 a reference that each table names. IQM is the mean of the middle half of all "
    "runs; the optimality gap is the mean shortfall from 100, and 0.45 means 45 points."
)
TERMS = (
    "A row is a backbone under one setting. Data embedded: made on the spot by small policies; preset quick: minutes "
    "on two cores, paper: as published. Acting window: the last K steps are looked at anew for each decision; "
    "recurrent: a state is carried. Rows share width and depth, not size, unless they are matched: see the parameters."
)
CONTROLS = {
    "identity": "mixes nothing: it does not see the return that is asked for",
    "mlp": "mixes within one step only",
}
EMBEDDED = (
    "These data were made on the spot by small policies. They are not the published data sets of these names, and "
    "nothing here compares with a paper."
)
EPISODES = (
    "One seed only: an interval marked e is over the evaluation episodes of that seed and says nothing about the noise "
    "of training, which is usually larger. Rank nothing by it."
)


def coverage() -> str:
    """What an interval from few seeds is worth."""
    return (
        f"95 % bootstrap intervals over seeds, drawn within each task. {notes.coverage()} Do not rank rows whose "
        "intervals overlap; the probability of improvement compares them pair by pair."
    )


def protocol(section: Mapping[str, Any]) -> str:
    """How every row of a section was evaluated."""
    return (
        f"{section['acting']} acting, {section['sampling']}, {section['episodes']} episodes per target, evaluation "
        f"seed {section['eval_seed']}"
    )
