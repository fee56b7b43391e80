"""The same updates with and without CUDA graphs, loss by loss."""

import math
from typing import Any

from backbench.errors import one_line
from gpu_check.cells import Trainer, paper_cell
from gpu_check.settings import Say, Settings

TOLERANCE = 1e-3  # largest relative difference of a loss, where a model's kernels do not repeat their own bits


def compare_graphs(settings: Settings, say: Say, seconds: float) -> None:
    """Each backbone in turn: losses of plain updates, of plain updates again, and of captured ones."""
    for backbone in settings.backbones:
        try:
            say({"kind": "graphs", "backbone": backbone, **_compare(backbone, settings)})
        except Exception as error:  # whatever it raises is what is reported of this backbone
            say({"kind": "error", "backbone": backbone, "error": f"{backbone}: {one_line(error)}"})


def _compare(backbone: str, settings: Settings) -> dict[str, Any]:
    def losses(graphs: bool) -> list[float]:
        return Trainer(paper_cell(backbone, settings, graphs), settings.device).losses(settings.updates)

    plain, again = losses(False), losses(False)
    found: dict[str, Any] = {"updates": settings.updates, "plain_repeats": plain == again}
    if settings.cuda:  # on a CPU the setting is refused
        found |= verdict(plain, again, losses(True))
    return found


def verdict(plain: list[float], again: list[float], graphed: list[float]) -> dict[str, Any]:
    """Whether captured updates have the losses of plain ones. Other bits are an error if plain ones repeat theirs."""
    differences = [abs(a - b) / max(abs(b), 1e-12) for a, b in zip(graphed, plain, strict=True)]
    worst = max(value if value == value else math.inf for value in differences)
    equal = graphed == plain
    found: dict[str, Any] = {"equal_bits": equal, "largest_difference": worst}
    if not equal and plain == again:
        found["error"] = f"losses with CUDA graphs differ by up to {worst:.1e}, and those without repeat their bits"
    elif not worst <= TOLERANCE:
        found["error"] = f"losses with CUDA graphs differ by up to {worst:.1e}, allowed {TOLERANCE:.0e}"
    return found
