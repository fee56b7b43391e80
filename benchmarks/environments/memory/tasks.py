"""The memory tasks. Each asks for another mechanism; docs/memory.md derives what a policy without memory earns."""

import numpy as np

from backbench.benchmarks.environments.memory.script import NONE, MemoryTask, Script, one_hot
from backbench.errors import require

SYMBOLS = 4  # different symbols, values and answers
LONGEST_GAP = 6  # steps from one question of ``Counter`` to the next


def _at_least(least: int, **sizes: int) -> None:
    for name, value in sizes.items():
        whole = isinstance(value, int) and not isinstance(value, bool) and least <= value <= 10**6
        require(whole, f"{name}={value!r}: give a whole number of at least {least}, up to 1,000,000")


class TMaze(MemoryTask):
    """Keep one bit: the first step shows left or right, the last one asks (arXiv:2307.03864, its passive T-maze).

    Observation: left, right, corridor, junction. ``length`` T in steps.
    """

    def __init__(self, length: int = 24, seen: bool = False) -> None:
        _at_least(2, length=length)
        super().__init__(4, 2, length, length - 1, seen)

    def draw(self, rng: np.random.Generator) -> Script:
        cue = int(rng.integers(2))
        places = np.full(self.steps, 2)
        places[0], places[-1] = cue, 3
        answers = np.full(self.steps, NONE)
        answers[-1] = cue
        return Script(one_hot(places, 4), answers, np.full(self.steps, cue))


class Repeat(MemoryTask):
    """A delay line: answer with the symbol of ``lag`` steps ago, at every step from then on.

    ``length`` T in steps, 0 for six times the lag.
    """

    def __init__(self, lag: int = 4, length: int = 0, seen: bool = False) -> None:
        _at_least(1, lag=lag)
        length = length or 6 * lag
        _at_least(lag + 1, length=length)
        super().__init__(SYMBOLS, SYMBOLS, length, lag, seen)
        self.lag = lag

    def draw(self, rng: np.random.Generator) -> Script:
        symbols = rng.integers(SYMBOLS, size=self.steps)
        answers = np.concatenate([np.full(self.lag, NONE), symbols[: -self.lag]])
        return Script(one_hot(symbols, SYMBOLS), answers, answers)


class Copy(MemoryTask):
    """Capacity: see ``symbols`` symbols, then repeat them in reverse. Observation: the symbol, or that it has to."""

    def __init__(self, symbols: int = 12, seen: bool = False) -> None:
        _at_least(1, symbols=symbols)
        super().__init__(SYMBOLS + 1, SYMBOLS, 2 * symbols, 2 * symbols - 1, seen)

    def draw(self, rng: np.random.Generator) -> Script:
        half = self.steps // 2
        symbols = rng.integers(SYMBOLS, size=half)
        shown = np.concatenate([symbols, np.full(half, SYMBOLS)])
        answers = np.concatenate([np.full(half, NONE), symbols[::-1]])
        return Script(one_hot(shown, SYMBOLS + 1), answers, answers)


class Recall(MemoryTask):
    """Content addressing: see ``pairs`` of a key and a value, then each key once, in another order (arXiv:2312.04927).

    Observation: the key, and the value while pairs are shown.
    """

    def __init__(self, pairs: int = 8, seen: bool = False) -> None:
        _at_least(1, pairs=pairs)
        super().__init__(pairs + SYMBOLS, SYMBOLS, 2 * pairs, 2 * pairs - 1, seen)

    def draw(self, rng: np.random.Generator) -> Script:
        pairs = self.steps // 2
        keys, queries, value_of = rng.permutation(pairs), rng.permutation(pairs), rng.integers(SYMBOLS, size=pairs)
        nothing = np.full(pairs, NONE)
        shown = one_hot(np.concatenate([keys, queries]), pairs)
        values = one_hot(np.concatenate([value_of[keys], nothing]), SYMBOLS)
        answers = np.concatenate([nothing, value_of[queries]])
        return Script(np.concatenate([shown, values], axis=1), answers, answers)


class Counter(MemoryTask):
    """Track a state: from a number that is shown, count marks up to the question, modulo ``modulus``.

    After each question a new number is shown, so neither the last answer nor the return tells the state. A question
    comes 1 to 6 steps after the number. With modulus 2 it is parity. Observation: the number, no mark, mark, question.
    """

    def __init__(self, modulus: int = 4, length: int = 24, seen: bool = False) -> None:
        _at_least(2, modulus=modulus, length=length)
        super().__init__(modulus + 3, modulus, length, min(LONGEST_GAP, length - 1), seen)
        self.modulus = modulus

    def draw(self, rng: np.random.Generator) -> Script:
        blank, question = self.modulus, self.modulus + 2
        shown, answers, hidden = (np.full(self.steps, value) for value in (blank, NONE, NONE))
        begin = 0
        while begin + 1 < self.steps:
            end = min(begin + int(rng.integers(1, LONGEST_GAP + 1)), self.steps - 1)
            start, marks = int(rng.integers(self.modulus)), rng.integers(2, size=end - begin - 1)
            shown[begin], shown[begin + 1 : end], shown[end] = start, blank + marks, question
            hidden[begin:end] = (start + np.concatenate([[0], np.cumsum(marks)])) % self.modulus
            answers[end] = hidden[end] = hidden[end - 1]
            begin = end + 1
        return Script(one_hot(shown, self.modulus + 3), answers, hidden)
