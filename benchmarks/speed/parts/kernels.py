"""Kernels one by one: forward and backward pass at a model's shape, and the scan over lengths."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from backbench.agents.tokenizer import TOKENS_PER_STEP
from backbench.backbones.kernels import OPERATIONS, causal_conv1d, chosen, selective_scan
from backbench.benchmarks.speed.config import SpeedConfig
from backbench.benchmarks.speed.equality import Function, Shape, Unequal, check_operation, operation_inputs
from backbench.benchmarks.speed.examine import Examiner
from backbench.benchmarks.speed.models import Model
from backbench.benchmarks.speed.report import Fields, KernelEntry
from backbench.benchmarks.speed.timing import LEAST, Sampler, interleave, once

STATE = 16
LENGTHS = (64, 256, 1024, 4096)
WINDOWS = (3, 6)


def mambapy_scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """mambapy's parallel scan, with the same work before and after it as in mambapy's block."""
    pscan: Function = importlib.import_module("mambapy.pscan").pscan
    decay = torch.exp(dt.unsqueeze(-1) * A)
    inflow = (dt * x).unsqueeze(-1) * B.unsqueeze(2)
    states = pscan(decay, inflow)
    return (states @ C.unsqueeze(-1)).squeeze(-1) + D * x


def indexing_scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """The algorithm of mamba-ssm's plain PyTorch fallback: precompute everything, then loop and index time.

    Restated here to time the algorithm where the package cannot be installed. Each index has a gradient as large as
    the complete sequence, which makes the backward pass quadratic in length.
    """
    decay = torch.einsum("bld,dn->bdln", dt, A).exp()
    inflow = torch.einsum("bld,bln,bld->bdln", dt, B, x)
    state = x.new_zeros(x.shape[0], *A.shape)
    outputs = []
    for t in range(x.shape[1]):
        state = decay[:, :, t] * state + inflow[:, :, t]
        outputs.append(torch.einsum("bdn,bn->bd", state, C[:, t]))
    return torch.stack(outputs, dim=1) + D * x


OTHER_SCANS: dict[str, Function] = {"mambapy": mambapy_scan, "mamba-ssm's reference": indexing_scan}


def shape_of(config: SpeedConfig) -> Shape:
    """(batch, length, channels, state) of the scan in a Mamba of this width with its default options."""
    return config.batch_size, TOKENS_PER_STEP * config.context, 2 * config.d_model, STATE


def _run(function: Function, inputs: Mapping[str, Tensor], device: str) -> Sampler:
    """Forward and backward pass, with an output gradient of ones made beforehand."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs.values()]
    ones = torch.ones_like(leaves[0])
    return once(lambda: torch.autograd.grad(function(*leaves), leaves, ones), device)


def _calls(operation: str, name: str) -> dict[int | None, Function]:
    """Calls of one of our implementations, by the scan's window."""
    if operation == "causal_conv1d":
        return {None: partial(causal_conv1d, implementation=name)}
    # The reference scans every window from its start: too slow to time.
    windows = (None,) if name == "reference" else (None, *WINDOWS)
    return {window: partial(selective_scan, window=window, implementation=name) for window in windows}


def time_operation(operation: str, examiner: Examiner, seconds: float) -> list[KernelEntry]:
    """Every installed implementation that is equal to the reference, the scan's windows and other packages' scans."""
    config = examiner.config
    device = torch.device(config.device)
    table = OPERATIONS[operation].table
    ours = [name for name in OPERATIONS[operation].here() if table[name].takes(device.type, torch.float32)]
    others = [
        name
        for name in (OTHER_SCANS if operation == "selective_scan" else ())
        if name != "mambapy" or importlib.util.find_spec("mambapy") is not None
    ]
    calls: dict[tuple[str, int | None], Function] = {}
    refused: dict[str, str] = {}
    for name in (*ours[::-1], *others):  # the fastest first
        try:
            if name in others:
                check_operation(operation, name, config.device, other=OTHER_SCANS[name])
                calls[name, None] = OTHER_SCANS[name]
            else:
                examiner.kernel(operation, name)
                calls |= {(name, window): call for window, call in _calls(operation, name).items()}
        except Unequal as error:
            refused[name] = str(error)
    shape = shape_of(config)
    inputs = operation_inputs(operation, shape, config.device)
    samplers = {key: _run(call, inputs, config.device) for key, call in calls.items()}
    taken = interleave(samplers, config.repeats, seconds)

    def entry(name: str, window: int | None, seconds: tuple[float, ...], reason: str | None = None) -> KernelEntry:
        size = shape if operation == "selective_scan" else shape[:3]
        return KernelEntry(operation=operation, implementation=name, ours=name in ours, shape=size, window=window,
                           seconds=seconds, refused=reason)  # fmt: skip

    timed = [entry(name, window, values) for (name, window), values in taken.items()]
    return timed + [entry(name, None, (), reason) for name, reason in refused.items()]


def free_memory(device: torch.device) -> float:
    """Free bytes of the device."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES"))


def time_scan_lengths(examiner: Examiner, seconds: float) -> list[KernelEntry]:
    """The scan that ``auto`` takes, over lengths. The batch is smaller where memory or time is short."""
    config = examiner.config
    device = torch.device(config.device)
    name = chosen("selective_scan", "auto", device.type, torch.float32)
    try:
        examiner.kernel("selective_scan", name)
    except Unequal:
        return []  # refused in the table of kernels
    batch, _, channels, state = shape_of(config)

    def sampler(rows: int, length: int) -> Sampler:
        inputs = operation_inputs("selective_scan", (rows, length, channels, state), config.device)
        return _run(partial(selective_scan, implementation=name), inputs, config.device)

    # x, dt, y, their gradients, and what an implementation keeps: about ten tensors, in a quarter of the free memory.
    room = free_memory(device) / 4 / (10 * 4 * max(LENGTHS) * channels)
    pilot = sampler(batch, min(LENGTHS))
    pilot()
    a_row = pilot()[0] / batch * sum(LENGTHS) / min(LENGTHS)
    rows = max(1, min(batch, int(room), int(seconds / a_row / (1 + LEAST))))
    share = seconds / len(LENGTHS)
    taken = {n: interleave({name: sampler(rows, n)}, config.repeats, share)[name] for n in LENGTHS}
    return [
        KernelEntry(operation="selective_scan", implementation=name, ours=True, shape=(rows, length, channels, state),
                    window=None, seconds=values)
        for length, values in taken.items()
    ]  # fmt: skip


def measure(models: Mapping[str, Model], examiner: Examiner, seconds: float) -> Fields:
    """Scan and convolution at a model's shape, and the scan over lengths."""
    scan = time_operation("selective_scan", examiner, 0.7 * 0.7 * seconds)
    convolution = time_operation("causal_conv1d", examiner, 0.7 * 0.3 * seconds)
    return {"kernels": scan + convolution, "scan_lengths": time_scan_lengths(examiner, 0.3 * seconds)}
