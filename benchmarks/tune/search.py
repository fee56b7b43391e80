"""``--sampler optuna``: settings that Optuna's TPE proposes for each backbone, from the scores of its earlier trials.

``results/tuning/TAG.journal`` is Optuna's own storage, with a study for each backbone; ``optuna`` and its dashboard
read it. A trial's words are noted there before its cells run, so a run that was killed goes on with the same settings.

``ROUND`` settings of each backbone run side by side, and each round knows the scores of all earlier ones. The proposals
depend on the tag, the backbone, the number of the trial and those scores alone: not on the machine, nor on how many
cells run at a time.
"""

from __future__ import annotations

import math
import urllib.parse
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbench.benchmarks.plan.tune import Tuning
from backbench.benchmarks.tune.scores import ended, record_of
from backbench.claims import alone
from backbench.errors import UserError, first_line, require
from backbench.leaderboard.record.identity import cell_digest

if TYPE_CHECKING:
    from backbench.benchmarks.plan.settings import Cell

Run = Callable[[Sequence["Cell"]], int]  # runs what is left of some cells; the exit status
Setting = tuple[str, ...]
FOLDER, WORDS = "tuning", "words"
ROUND = 4
STARTUP = 8  # trials before the sampler models scores; at most half of a given number
DULL = 50  # proposals that were there before until the space counts as used up


def search(asked: Tuning, results: Path, run: Run, say: Callable[[str], None]) -> tuple[dict[str, list[Setting]], int]:
    """Run the trials: the settings of each backbone, and the exit status of what ran last.

    Raises ``UserError``: Optuna is absent, its storage cannot be read, or the space has too few settings.
    """
    require(find_spec("optuna") is not None, "Optuna is not installed; install it with: pip install 'backbench[tune]'")
    path = results / FOLDER / f"{urllib.parse.quote(asked.tag, safe='')}.journal"
    tried: dict[str, list[Setting]] = {name: [] for name in asked.request.backbones}
    for name in tried:
        _due(asked, name, [])  # a budget that is too small is an error before anything is written
    path.parent.mkdir(parents=True, exist_ok=True)
    while more := {name: count for name in tried if (count := _due(asked, name, tried[name]))}:
        with alone(path.with_suffix(".claim")):
            for name, count in more.items():
                try:
                    tried[name] = _Proposals(asked, name, path).first(len(tried[name]) + count, results)
                except UserError:
                    raise
                except Exception as error:  # whatever its storage raises
                    raise UserError(f"{path}: {first_line(error)}; move it away to begin the tuning again") from error
        left = [cell for cell in asked.trials_of(tried) if record_of(cell, results) is None]
        if left:
            say(f"Trials up to {max(map(len, tried.values()))} of {asked.budget.word}:")
            if (status := run(left)) > 128:
                return tried, status
        there = asked.trials_of(tried)
        lost = {cell.backbone for cell in there if record_of(cell, results) is None}
        for name in sorted(lost):  # a trial that ended in an error has no score; the same command tries it again
            del tried[name]
    with alone(path.with_suffix(".claim")):
        for name in tried:
            _Proposals(asked, name, path).first(len(tried[name]), results)  # its scores, for who reads the storage
    return tried, 0


def _due(asked: Tuning, backbone: str, settings: Sequence[Setting]) -> int:
    """How many settings come next; 0 where the budget is used up."""
    if asked.budget.flops:
        from backbench.benchmarks.tune.flops import affordable

        return affordable(asked, backbone, settings, ROUND)
    return min(ROUND, asked.budget.count - len(settings))


class _Proposals:
    """The settings of one backbone."""

    def __init__(self, asked: Tuning, backbone: str, path: Path) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._asked, self._backbone = asked, backbone
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            storage = JournalStorage(JournalFileBackend(str(path)))
        self._study = optuna.create_study(
            study_name=backbone, storage=storage, direction="maximize", load_if_exists=True
        )

    def first(self, count: int, results: Path) -> list[Setting]:
        """The first ``count`` settings; new ones are proposed once the scores of all older ones are told."""
        self._tell(results)
        there, dull = self._noted(), 0
        while len(there) < count:
            setting = self._propose([one for _, one in there])
            there, dull = self._noted(), dull + 1 if setting is None else 0
            only = f"the space seems to have only {len(there)} settings"
            require(dull < DULL, f"--tune {self._asked.budget.word}: {only}; give a smaller number")
        return [setting for _, setting in there[:count]]

    def _noted(self) -> list[tuple[Any, Setting]]:
        """Trials with a setting of their own, in order. The file may be anybody's, so settings must be of the space."""
        found, space = [], self._asked.space
        for trial in self._study.trials:
            if words := trial.user_attrs.get(WORDS):
                fits = isinstance(words, list) and len(words) == len(space) and all(isinstance(w, str) for w in words)
                if not fits or not all(one.holds(word) for one, word in zip(space, words, strict=True)):
                    raise ValueError(f"trial {trial.number} of {self._backbone} is not of the space")
                found.append((trial, tuple(words)))
        return found

    def _tell(self, results: Path) -> None:
        from optuna.trial import TrialState

        there = self._noted()
        asked, name = self._asked, self._backbone
        open_ = [(trial, setting) for trial, setting in there if not trial.state.is_finished()]
        scores = ended(asked, results, {name: [setting for _, setting in open_]}).get(name)
        for trial, setting in open_:
            words = " ".join(sorted(setting))
            if scores is None or set(scores.tasks) != set(asked.tasks) or words not in scores.scores:
                continue  # cells of it are left
            score = scores.scores[words]
            if score is None or not math.isfinite(score):  # training diverged
                self._study.tell(trial.number, state=TrialState.PRUNED)  # counts as worse than any score
            else:
                self._study.tell(trial.number, score)
        for trial in self._study.trials:  # killed between a proposal and its note
            if not trial.state.is_finished() and not trial.user_attrs.get(WORDS):
                self._study.tell(trial.number, state=TrialState.FAIL)

    def _propose(self, there: list[Setting]) -> Setting | None:
        """A setting that is none of ``there``; None if the sampler proposed one of them again."""
        import optuna
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState

        asked = self._asked
        number = len(self._study.trials)
        seed = int(cell_digest({"tag": asked.tag, "backbone": self._backbone, "trial": number}), 16)
        startup = min(STARTUP, max(1, asked.budget.count // 2)) if asked.budget.count else STARTUP
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.sampler = TPESampler(seed=seed, n_startup_trials=startup, constant_liar=True, multivariate=True)
        trial, words = self._study.ask(), []
        for one in asked.space:
            if one.choices:
                words.append(one.override(trial.suggest_categorical(one.key, list(one.choices))))
            else:
                words.append(one.override(trial.suggest_float(one.key, one.low, one.high, log=one.log)))
        if tuple(words) in there:
            self._study.tell(trial, state=TrialState.FAIL)
            return None
        trial.set_user_attr(WORDS, words)
        return tuple(words)
