"""Several cells at once on one GPU, each in a process of its own, as ``bench run --jobs N`` does."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from backbench.errors import one_line
from gpu_check.settings import Say, Settings

Phase = tuple[str, bool, tuple[int, ...]]  # backbone, with CUDA graphs or not, and the numbers of cells at once
WARM_UP = 5  # updates: the graph is captured in them


def phases(settings: Settings) -> list[Phase]:
    """What is measured, the most telling first. Without graphs, one cell alone is measured by ``cells``."""
    first, *others = settings.backbones
    counts, ends = settings.counts, tuple(dict.fromkeys((settings.counts[0], settings.counts[-1])))
    modes = [True, False] if settings.cuda else [False]
    found: list[Phase] = [(first, graphs, counts) for graphs in modes]
    return found + [(name, graphs, ends if graphs else ends[-1:]) for graphs in modes for name in others]


def measure_packing(settings: Settings, say: Say, seconds: float) -> None:
    """Start the processes once, then let the first 1, 2, … of them train at the same time."""
    end = time.monotonic() + seconds
    context = get_context("spawn")
    workers: list[tuple[SpawnProcess, Connection]] = []
    for _ in range(max(settings.counts)):
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, settings.text()), daemon=True)
        process.start()
        theirs.close()
        workers.append((process, ours))
    try:
        for backbone, graphs, counts in phases(settings):
            if time.monotonic() > end - 2 * settings.phase_seconds - 2:
                say({"kind": "error", "error": f"no time was left for {backbone}{' with CUDA graphs' * graphs}"})
                break
            try:
                _ask([pipe for _, pipe in workers[: max(counts)]], ("build", backbone, graphs))
                for count in counts:
                    ran = _ask([pipe for _, pipe in workers[:count]], ("run", settings.phase_seconds))
                    rate = sum(done / taken for done, taken in ran)
                    say({"kind": "packed", "backbone": backbone, "graphs": graphs, "count": count,
                         "updates_per_s": rate})  # fmt: skip
            except RuntimeError as error:
                say({"kind": "error", "backbone": backbone, "error": f"{backbone}: {one_line(error)}"})
    finally:
        for process, _ in workers:
            process.kill()


def _ask(pipes: Sequence[Connection], question: tuple[object, ...]) -> list[tuple[int, float]]:
    """The answers of all workers to a question that they get at the same time. RuntimeError: what one could not do."""
    for pipe in pipes:
        pipe.send(question)
    answers = list(_answers(pipes))
    errors = [answer for answer in answers if isinstance(answer, str)]
    if errors:
        raise RuntimeError(errors[0])
    return [answer for answer in answers if not isinstance(answer, str)]


def _answers(pipes: Sequence[Connection]) -> Iterator[tuple[int, float] | str]:
    for pipe in pipes:
        try:
            yield pipe.recv()
        except (EOFError, OSError):
            yield "its process ended"


def _work(pipe: Connection, text: str) -> None:
    """A worker: builds a cell when asked, trains it when asked, and answers with updates and seconds."""
    from gpu_check.cells import Trainer, paper_cell

    settings, trainer = Settings.of(text), None
    while True:
        try:
            word, *rest = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            if word == "build":
                trainer = None  # its memory is free before the next one takes some
                trainer = Trainer(paper_cell(str(rest[0]), settings, bool(rest[1])), settings.device)
                trainer.losses(WARM_UP)
                pipe.send((0, 1.0))
            else:
                assert trainer is not None
                pipe.send(trainer.run(float(rest[0])))
        except Exception as error:
            pipe.send(f"{type(error).__name__}: {one_line(error)}")
