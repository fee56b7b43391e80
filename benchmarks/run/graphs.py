"""An update as one CUDA graph: the GPU gets all its kernels at once and does not wait for Python between them.

``train.cuda_graphs``. At the sizes of this benchmark an update is hundreds of kernels of microseconds each, and
launching them one by one takes longer than running them. PyTorch's notes on CUDA semantics, section "CUDA graphs", say
what a captured function may do: no wait for the device, the same shapes and the same memory each time.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from backbench.agents.agent import Windows
from backbench.errors import UserError, first_line

Update = Callable[[Windows], Tensor]  # trains on a batch, and returns the loss on the device
WARM_UP = 3  # updates before the capture: kernels are compiled, workspaces and the optimiser's moments are made


class Capture(Protocol):
    """How a function's work on the device is recorded. On a CPU, tests bring a stand-in."""

    def beside(self, run: Callable[[], Tensor]) -> Tensor:
        """Run without recording, as the recording will: on its stream."""

    def record(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Record ``run`` without doing its work: what does the work each time, and the memory of its result then."""


class Graphed:
    """``update`` for batches of one shape. Every call trains once, so the losses are those of ``update``."""

    def __init__(self, update: Update, capture: Capture | None = None) -> None:
        self.update, self.capture = update, capture or CudaCapture()
        self.calls = 0
        self.batch: Windows | None = None  # the memory that the graph reads
        self.loss = torch.empty(0)  # and the one that it writes
        self.replay: Callable[[], None] = lambda: None

    def __call__(self, batch: Windows) -> Tensor:
        """The loss of one update, a copy that later updates do not change.

        Raises ``UserError`` if the update cannot be captured.
        """
        self.calls += 1
        if self.calls <= WARM_UP:
            return self.capture.beside(lambda: self.update(batch))
        if self.batch is None:
            self.batch = static = Windows(**{name: torch.empty_like(value) for name, value in vars(batch).items()})
            try:
                self.replay, self.loss = self.capture.record(lambda: self.update(static))
            except RuntimeError as error:
                raise UserError(
                    f"train.cuda_graphs: this update cannot be captured ({first_line(error)}); remove the setting"
                ) from error
        for name, value in vars(batch).items():
            getattr(self.batch, name).copy_(value)
        self.replay()
        return self.loss.clone()


class CudaCapture:
    """Records with ``torch.cuda.graph``, on a stream of its own."""

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()

    def beside(self, run: Callable[[], Tensor]) -> Tensor:
        """See ``Capture``. Autograd remembers the stream on which a parameter first got its gradient."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            made = run()
        torch.cuda.current_stream().wait_stream(self.stream)
        return made

    def record(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """See ``Capture``. Each replay takes the next random numbers of PyTorch's generator, as ``run`` would."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            made = run()
        return graph.replay, made
