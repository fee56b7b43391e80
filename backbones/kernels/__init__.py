"""The operations that cost most. Each has a readable reference (``naive.py``) and faster implementations that equal it.

A folder holds one operation. :mod:`.dispatch` chooses among its implementations.
"""

import torch

from backbench.backbones.kernels.attention.attention import ATTENTION, attention
from backbench.backbones.kernels.conv.causal_conv1d import CAUSAL_CONV1D, causal_conv1d
from backbench.backbones.kernels.diagonal.diagonal_recurrence import DIAGONAL_RECURRENCE, diagonal_recurrence
from backbench.backbones.kernels.dispatch import Implementation
from backbench.backbones.kernels.layers.layers import LAYERS
from backbench.backbones.kernels.linear.linear_recurrence import (
    LINEAR_RECURRENCE,
    linear_recurrence,
    linear_recurrence_extend,
)
from backbench.backbones.kernels.linear.naive import Recurrence
from backbench.backbones.kernels.scan.naive import ScanInputs, selective_scan_step
from backbench.backbones.kernels.scan.selective_scan import (
    SELECTIVE_SCAN,
    SlowKernels,
    selective_scan,
    selective_scan_extend,
    slow_note,
)
from backbench.errors import UserError, suggest

_ALL = (SELECTIVE_SCAN, DIAGONAL_RECURRENCE, LINEAR_RECURRENCE, CAUSAL_CONV1D, ATTENTION, LAYERS)
OPERATIONS = {operation.name: operation for operation in _ALL}

__all__ = [
    "OPERATIONS", "Implementation", "Recurrence", "ScanInputs", "SlowKernels", "attention", "causal_conv1d", "chosen",
    "diagonal_recurrence", "forget_ran", "linear_recurrence", "linear_recurrence_extend", "ran", "selective_scan",
    "selective_scan_extend", "selective_scan_step", "slow_note",
]  # fmt: skip


def chosen(op: str, implementation: str = "auto", device: str = "cpu", dtype: torch.dtype = torch.float32) -> str:
    """The name of the implementation of ``op`` that runs on such inputs if the user asks for ``implementation``."""
    if op not in OPERATIONS:
        raise UserError(f"unknown operation '{op}'{suggest(op, OPERATIONS)}")
    return OPERATIONS[op].chosen(implementation, device, dtype).name


def ran() -> dict[str, str]:
    """Operation to the implementation that ran in this process since ``forget_ran``; several are joined by ``+``."""
    return {name: "+".join(sorted(op.ran)) for name, op in OPERATIONS.items() if op.ran}


def forget_ran() -> None:
    """Clear what ``ran`` reports."""
    for op in OPERATIONS.values():
        op.ran.clear()
