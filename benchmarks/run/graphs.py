"""An update as one CUDA graph (``train.cuda_graphs``): its kernels are launched at once, not one by one by Python."""

from collections.abc import Callable

import torch
from torch import Tensor

from backbench.agents.agent import Windows
from backbench.errors import UserError, first_line

Update = Callable[[Windows], Tensor]  # trains on a batch, and returns the loss on the device
WARM_UP = 3  # updates before the capture, in which kernels are compiled and the optimiser's moments are made


class Graphed:
    """``update`` for batches of one shape. Every call trains once, so the losses are those of ``update``."""

    def __init__(self, update: Update) -> None:
        self.update, self.calls = update, 0
        self.stream: torch.cuda.Stream | None = None
        self.graph: tuple[Windows, Callable[[], None], Tensor] | None = None  # memory of the batch, replay, its loss

    def __call__(self, batch: Windows) -> Tensor:
        """The loss of one update, a copy. Raises ``UserError`` if the update cannot be captured."""
        self.calls += 1
        if self.calls <= WARM_UP:
            return self.beside(lambda: self.update(batch))
        if self.graph is None:
            static = Windows(**{name: torch.empty_like(value) for name, value in vars(batch).items()})
            try:
                self.graph = static, *self.capture(lambda: self.update(static))
            except RuntimeError as error:
                raise UserError(f"train.cuda_graphs: no graph can be made ({first_line(error)}); remove it") from error
        static, replay, loss = self.graph
        for name, value in vars(batch).items():
            getattr(static, name).copy_(value)
        replay()
        return loss.clone()

    def beside(self, run: Callable[[], Tensor]) -> Tensor:
        """Run on the stream of the capture: autograd remembers where a gradient was first made."""
        self.stream = self.stream or torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            made = run()
        torch.cuda.current_stream().wait_stream(self.stream)
        return made

    def capture(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Record ``run``: what repeats it, with the next random numbers each time, and the memory of its result."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            made = run()
        return graph.replay, made
