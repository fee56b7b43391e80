"""State encoders: an observation to one vector of the model's width.

An encoder is any module with ``forward(states: (..., *observation)) -> (..., d_model)``. It runs once per step. The
tokenizer initialises the linear layer of ``VectorEncoder``. Other encoders keep their own start.
"""

import torch
from torch import Tensor, nn


class VectorEncoder(nn.Module):
    """Standardise a state vector by ``mean`` and ``std`` (observation,) of the training states, then project it.

    The statistics are saved with the weights. Raises ValueError if ``std`` is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, d_model: int) -> None:
        super().__init__()
        if not bool((std > 0).all()):
            raise ValueError("state standard deviations must be positive")
        self.register_buffer("mean", mean.float())
        self.register_buffer("std", std.float())
        self.project = nn.Linear(mean.numel(), d_model)

    def forward(self, states: Tensor) -> Tensor:  # (..., observation) -> (..., d_model)
        return self.project((states - self.mean) / self.std)  # type: ignore[no-any-return]


def vector_encoder(observation: int, d_model: int) -> VectorEncoder:
    """An encoder with neutral statistics."""
    return VectorEncoder(torch.zeros(observation), torch.ones(observation), d_model)


# (channels, kernel, stride) of each convolution.
CONVOLUTIONS = {
    "nature": ((32, 8, 4), (64, 4, 2), (64, 3, 1)),  # Mnih et al. 2015; the Decision Transformer's on Atari
    "light": ((16, 4, 2), (32, 4, 2)),  # Mnih et al. 2013 (arXiv:1312.5602) at half the resolution
}
HALVED = ("light",)  # kinds that see the maximum of each 2x2 pixels, so a ball of one pixel stays as bright


class PixelEncoder(nn.Module):
    """Stacked frames to a vector: convolutions with ReLU, then one linear layer, with PyTorch's initialisation.

    ``kind`` is a key of ``CONVOLUTIONS``. ``state_shape`` is the (stack, height, width) of a uint8 state.
    """

    def __init__(self, kind: str, state_shape: tuple[int, ...], d_model: int) -> None:
        super().__init__()
        self.halved = kind in HALVED
        channels, height, width = state_shape
        if self.halved:
            height, width = height // 2, width // 2
        layers: list[nn.Module] = []
        for out, kernel, stride in CONVOLUTIONS[kind]:
            layers += [nn.Conv2d(channels, out, kernel, stride), nn.ReLU()]
            channels, height, width = out, (height - kernel) // stride + 1, (width - kernel) // stride + 1
        self.convolutions = nn.Sequential(*layers)
        self.project = nn.Linear(channels * height * width, d_model)

    def forward(self, states: Tensor) -> Tensor:  # (..., stack, height, width) uint8 -> (..., d_model)
        lead = states.shape[:-3]
        pixels = states.reshape(-1, *states.shape[-3:])  # one batch of images, whatever the leading axes
        if self.halved:  # while they are still bytes
            pixels = torch.maximum(pixels[..., ::2, :], pixels[..., 1::2, :])
            pixels = torch.maximum(pixels[..., ::2], pixels[..., 1::2])
        # With channels last, convolutions save a third less for the backward pass.
        pixels = pixels.to(torch.float32, copy=True, memory_format=torch.channels_last).div_(255)
        features: Tensor = self.project(self.convolutions(pixels).flatten(1))
        return features.view(*lead, -1)
