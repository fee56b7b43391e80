"""GLoMa, Global-local Fusion Mamba, implemented from the description in arXiv:2406.02013. Its code is not public.

y = fuse(global(x), local(x)), where global is a Mamba block and local a Mamba block whose memory ends after a window.
What the paper leaves open is an option here. docs/reference/gloma.md gives the reason for each default.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backbench.backbones.contract import ALL, Mixer, Spec, State, initialise_gpt2, map_state
from backbench.backbones.kernels.scan.selective_scan import SELECTIVE_SCAN
from backbench.backbones.mixers.mamba import MambaBlock
from backbench.errors import require, suggest

CHOICES = {
    "branches": ("both", "global", "local"), "local": ("overlapping", "blocks"), "window_of": ("branch", "scan"),
    "fusion": ("sum", "gated", "concat"),
}  # fmt: skip


@dataclass(frozen=True)
class GLoMaOptions:
    """Options of GLoMa: each point that the paper leaves open."""

    branches: str = "both"  # `both`, or one alone: `global`, `local`
    window: int = 2  # environment steps that the local branch sees, the current one included
    windows: tuple[int, ...] = ()  # of each layer, in their order, instead of `window`: `[2,6]`
    local: str = "overlapping"  # windows that end at each token (`overlapping`), or that tile the context (`blocks`)
    # What the overlapping window limits: the `branch`, or only the `scan` (a token then sees d_conv - 1 tokens more).
    window_of: str = "branch"
    fusion: str = "sum"  # of the branches: `sum`, `gated` (a learned gate), or `concat` (a linear layer over both)
    share_weights: bool = False  # whether both branches share one Mamba block
    d_state: int = 16  # states of each channel's recurrence in the global branch
    local_d_state: int = 16  # states of each channel's recurrence in the local branch
    d_conv: int = 4  # taps of the causal convolution in the global branch
    # Taps in the local branch, fewer than its window has tokens. With 1 the scan gets the complete window.
    local_d_conv: int = 4
    expand: int = 2  # channels of the recurrences, as a multiple of d_model
    dt_rank: int = 0  # rank of the projection to the time step; 0 means d_model / 16, rounded up
    mlp: bool = True  # whether a feed-forward network follows each mixer
    activation: str = "gelu"  # of the feed-forward network: gelu, gelu_tanh or relu
    kernels: str = "auto"  # implementation of the scan; auto chooses the fastest

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            value = getattr(self, name)
            require(value in known, f"gloma: unknown {name} '{value}'{suggest(value, known)}")
        for window in self.windows:
            positive = isinstance(window, int) and not isinstance(window, bool) and window >= 1
            require(positive, f"gloma: windows={list(self.windows)}; give integers of at least 1")
        for name in ("window", "d_state", "local_d_state", "d_conv", "local_d_conv", "expand"):
            require(getattr(self, name) >= 1, f"gloma: {name}={getattr(self, name)}; give at least 1")
        require(self.dt_rank >= 0, f"gloma: dt_rank={self.dt_rank}; give 0 (d_model / 16) or more")
        same = (self.d_state, self.d_conv) == (self.local_d_state, self.local_d_conv)
        require(same or not self.share_weights, "gloma: share_weights needs equal d_state and d_conv in both branches")
        joined = self.fusion != "sum" or self.share_weights
        require(
            self.branches == "both" or not joined,
            f"gloma: branches={self.branches} is one branch; leave fusion=sum and share_weights=false",
        )
        SELECTIVE_SCAN.require(self.kernels)
        windowless = self.kernels == "mamba_ssm" and self.local == "overlapping" and self.branches != "global"
        require(not windowless, "gloma: mamba_ssm's scan has no window; set kernels=auto or local=blocks")


class GLoMa(Mixer):
    """The fused mixer. Its step is recurrent: O(1) for the global branch, O(window) for the local one."""

    Options: ClassVar[type] = GLoMaOptions
    summary: ClassVar[str] = "Global-local fusion: a Mamba block plus one whose memory ends after a window"
    paper: ClassVar[str] = "arXiv:2406.02013 (GLoMa)"

    def __init__(self, options: GLoMaOptions, spec: Spec) -> None:
        super().__init__(options, spec)
        o, d = options, spec.d_model
        self.ffn_activation = o.activation if o.mlp else None
        fits = len(o.windows) in (0, spec.n_layers)
        require(fits, f"gloma: windows={list(o.windows)} has {len(o.windows)} entries for {spec.n_layers} layers")
        steps = o.windows[spec.layer] if o.windows else o.window
        self.window = steps * spec.tokens_per_step  # in tokens
        taps = o.local_d_conv
        # In tokens. None for blocks: there the scan restarts in each block.
        self.scan_window = None if o.local == "blocks" else self.window
        if o.local == "overlapping" and o.window_of == "branch":
            taps = max(1, min(taps, self.window - 1))  # the scan sees two tokens at least
            self.scan_window = self.window - taps + 1
            one = not o.share_weights or taps == o.d_conv
            sizes = f"window={steps} has {self.window} tokens, and needs more than d_conv={o.d_conv}"
            require(one, f"gloma: share_weights: {sizes}; widen the window or set window_of=scan")
        far = (d, o.d_state, o.d_conv, o.expand, o.dt_rank, o.kernels)
        self.global_branch = None if o.branches == "local" else MambaBlock(*far)
        local = (d, o.local_d_state, taps, o.expand, o.dt_rank, o.kernels)
        self.local_branch = None if o.share_weights or o.branches == "global" else MambaBlock(*local)
        inputs = {"sum": 0, "gated": d, "concat": 2 * d}[o.fusion]
        self.fusion = nn.Linear(inputs, d) if inputs else None

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_at(x, ALL)

    def forward_at(self, x: Tensor, keep: slice) -> Tensor:
        far = None if self.global_branch is None else self.global_branch(x, None, keep)
        return self._fuse(x[:, keep], far, None if self._near() is None else self.local(x, keep))

    def local(self, x: Tensor, keep: slice = ALL) -> Tensor:
        """The local branch alone, (batch, length, d_model) -> (batch, kept, d_model)."""
        block = cast("MambaBlock", self._near())
        if self.options.local == "overlapping":
            return block(x, self.scan_window, keep)  # type: ignore[no-any-return]
        y = block(self._blocks(x)).view(len(x), -1, x.shape[-1])
        return y[:, : x.shape[1]][:, keep]  # type: ignore[no-any-return]

    def log_decays(self, x: Tensor) -> dict[str, Tensor]:
        """Those of each branch, ``global`` and ``local``, see `MambaBlock.log_decays`."""
        found, block = {}, self._near()
        if self.global_branch is not None:
            found["global"] = self.global_branch.log_decays(x)
        if block is not None and self.options.local == "overlapping":
            found["local"] = block.log_decays(x)
        elif block is not None:
            near = block.log_decays(self._blocks(x))
            found["local"] = near.view(len(x), -1, *near.shape[2:])[:, : x.shape[1]]
        return found

    def project(self, x: Tensor) -> State:
        """The input, and what both branches project from it. Blocks are projected later, in `local`."""
        block = self._near() if self.options.local == "overlapping" else None
        far = None if self.global_branch is None else self.global_branch.project(x)
        return x, far, None if block is None else block.project(x)

    def mix(self, projected: State, keep: slice = ALL) -> Tensor:
        x, far, near = projected
        block, y_far, y_near = self._near(), None, None
        if self.global_branch is not None:
            y_far = self.global_branch.mix(far, None, keep, keep)
        if block is not None:
            y_near = self.local(x, keep) if near is None else block.mix(near, self.scan_window, keep, keep)
        return self._fuse(x[:, keep], y_far, y_near)

    def initial_state(self, batch: int, device: Any = None, dtype: torch.dtype | None = None) -> State:
        """The states of the branches, and for blocks each row's position in its block."""
        block, far, near = self._near(), None, None
        if self.global_branch is not None:
            far = self.global_branch.initial_state(batch, device, dtype)
        if block is not None:
            near = block.initial_state(batch, device, dtype, self.scan_window)
        return far, near, torch.zeros(batch, dtype=torch.long, device=(near or far)[0].device)  # type: ignore[index]

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = self.extend(x_t.unsqueeze(1), state)
        return y[:, 0], state

    def extend(self, x: Tensor, state: State, keep: slice = ALL) -> tuple[Tensor, State]:
        block, y_far, y_near = self._near(), None, None
        blocks = self.options.local == "blocks" and block is not None
        if blocks and x.shape[1] > 1:  # a block may end between two of these tokens
            return super().extend(x, state, keep)
        far, near, position = state
        if self.global_branch is not None:
            y_far, far = self.global_branch.extend(x, far, None, keep)
        if block is not None:
            y_near, near = block.extend(x, near, self.scan_window, keep)
        if blocks:
            position = (position + 1) % self.window
            ended = position == 0
            near = map_state(lambda leaf: leaf.masked_fill(ended.view(-1, *[1] * (leaf.dim() - 1)), 0), near)
        return self._fuse(x[:, keep], y_far, y_near), (far, near, position)

    def initialise(self, residual_scale: float) -> None:
        """Each branch as a Mamba. The residual scale applies to the branches, or with concat to the fusion."""
        of_branch, of_fusion = (1.0, residual_scale) if self.options.fusion == "concat" else (residual_scale, 1.0)
        for branch in (self.global_branch, self.local_branch):
            if branch is not None:
                branch.initialise(of_branch)
        if self.fusion is not None:
            initialise_gpt2(self.fusion)
            with torch.no_grad():
                self.fusion.weight.mul_(of_fusion)

    def flops(self, length: int) -> float:
        """The branches, and the fusion's linear layer."""
        block = self._near()
        fusion = 0 if self.fusion is None else 2 * self.fusion.weight.numel()
        local = 0.0 if block is None else block.flops(self.scan_window)
        return (0.0 if self.global_branch is None else self.global_branch.flops()) + local + fusion

    def _near(self) -> MambaBlock | None:
        """The block of the local branch, if there is one."""
        return self.global_branch if self.options.share_weights else self.local_branch

    def _blocks(self, x: Tensor) -> Tensor:
        """(batch, length, d_model) -> (batch * blocks, window, d_model), with zeros at the end."""
        return F.pad(x, (0, 0, 0, -x.shape[1] % self.window)).view(-1, self.window, x.shape[-1])

    def _fuse(self, x: Tensor, far: Tensor | None, near: Tensor | None) -> Tensor:
        if far is None or near is None:
            return cast("Tensor", near if far is None else far)
        if self.fusion is None:
            return far + near
        if self.options.fusion == "concat":
            return self.fusion(torch.cat((far, near), dim=-1))  # type: ignore[no-any-return]
        gate = torch.sigmoid(self.fusion(x))
        return gate * far + (1 - gate) * near
