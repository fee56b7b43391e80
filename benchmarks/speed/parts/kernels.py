"""Kernels one by one: forward and backward pass at a model's shape, and the scan over lengths."""

import importlib
import importlib.util
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

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
    states = pscan(torch.exp(dt.unsqueeze(-1) * A), (dt * x).unsqueeze(-1) * B.unsqueeze(2))
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


def time_operation(operation: str, examiner: Examiner, seconds: float) -> list[KernelEntry]:
    """Every installed implementation that is equal to the reference, the scan's windows and other packages' scans."""
    config, scan = examiner.config, operation == "selective_scan"
    table = OPERATIONS[operation].table
    device = torch.device(config.device).type
    ours = [name for name in OPERATIONS[operation].here() if table[name].takes(device, torch.float32)]
    there = importlib.util.find_spec("mambapy") is not None
    others = {name: call for name, call in OTHER_SCANS.items() if scan and (name != "mambapy" or there)}
    calls: dict[tuple[str, int | None], Function] = {}
    refused: dict[str, str] = {}
    for name in (*ours[::-1], *others):  # the fastest first
        try:
            if name in others:
                check_operation(operation, name, config.device, other=others[name])
                calls[name, None] = others[name]
                continue
            examiner.kernel(operation, name)
        except Unequal as error:
            refused[name] = str(error)
            continue
        calls[name, None] = partial(selective_scan if scan else causal_conv1d, implementation=name)
        # The reference scans every window from its start: too slow to time.
        for window in WINDOWS if scan and name != "reference" else ():
            calls[name, window] = partial(selective_scan, window=window, implementation=name)
    shape = shape_of(config)
    inputs = operation_inputs(operation, shape, config.device)
    samplers = {key: _run(call, inputs, config.device) for key, call in calls.items()}
    taken = interleave(samplers, config.repeats, seconds)

    def entry(name: str, **found: Any) -> KernelEntry:
        size = shape if scan else shape[:3]
        return KernelEntry(operation=operation, implementation=name, ours=name in ours, shape=size, **found)

    timed = [entry(name, window=window, seconds=values) for (name, window), values in taken.items()]
    return timed + [entry(name, window=None, refused=reason) for name, reason in refused.items()]


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

    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    # x, dt, y, their gradients, and what an implementation keeps: about ten tensors, in a quarter of the free memory.
    room = free / 4 / (10 * 4 * max(LENGTHS) * channels)
    pilot = sampler(batch, min(LENGTHS))
    pilot()
    a_row = pilot()[0] / batch * sum(LENGTHS) / min(LENGTHS)
    rows = max(1, min(batch, int(room), int(seconds / a_row / (1 + LEAST))))
    entries = []
    for length in LENGTHS:
        taken = interleave({name: sampler(rows, length)}, config.repeats, seconds / len(LENGTHS))
        entries.append(KernelEntry(operation="selective_scan", implementation=name, ours=True, window=None,
                                   shape=(rows, length, channels, state), seconds=taken[name]))  # fmt: skip
    return entries


def measure(models: Mapping[str, Model], examiner: Examiner, seconds: float) -> Fields:
    """Scan and convolution at a model's shape, and the scan over lengths."""
    scan = time_operation("selective_scan", examiner, 0.7 * 0.7 * seconds)
    convolution = time_operation("causal_conv1d", examiner, 0.7 * 0.3 * seconds)
    return {"kernels": scan + convolution, "scan_lengths": time_scan_lengths(examiner, 0.3 * seconds)}
