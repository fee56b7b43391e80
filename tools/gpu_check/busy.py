"""How long the GPU works: the time in which at least one kernel or copy runs, from PyTorch's profiler."""

from collections.abc import Callable, Iterable

import torch


def busy_seconds(run: Callable[[], object], updates: int) -> tuple[float, float]:
    """Seconds in which the GPU works, and its kernels and copies, both for one of the ``updates`` that ``run`` does.

    The profiler slows the launches, not the kernels. So the share of time in which the GPU waits is one minus these
    seconds times the updates per second that were measured without it.
    """
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        run()
        torch.cuda.synchronize()
    spans = [
        (one.time_range.start, one.time_range.end)
        for one in profiler.events() or ()
        # A range that somebody named spans kernels and the gaps between them.
        if one.device_type.name == "CUDA" and not getattr(one, "is_user_annotation", False)
        if not one.name.startswith(("Optimizer.", "ProfilerStep"))
    ]
    if not spans:
        raise RuntimeError("the profiler recorded no kernel")
    return covered(spans) / 1e6 / updates, len(spans) / updates


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
