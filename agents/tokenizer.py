"""Trajectories to tokens: triples (R, s, a), as in the Decision Transformer (arXiv:2106.01345, section 3), or fewer."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from backbench.agents.encoders import VectorEncoder
from backbench.agents.heads import ActionSpace
from backbench.backbones.dropout import Dropout

TOKENS = ("return", "state", "action")  # kinds of one step's tokens, in their order
TOKENS_PER_STEP = len(TOKENS)
# Name of a layout -> the kinds of one step's tokens. Without returns, an agent imitates. Without actions, it cannot use
# what it did as a note to itself.
LAYOUTS = {"rsa": TOKENS, "rs": ("return", "state"), "sa": ("state", "action"), "s": ("state",)}
TIMESTEPS, EMBEDDINGS = ("step", "window", "none"), ("norm", "tanh")


@dataclass(frozen=True)
class TokenConfig:
    """How tokens are made. The defaults are the Decision Transformer's on Gym."""

    max_timesteps: int  # rows of the timestep table; later timesteps share its last row
    return_scale: float  # returns-to-go are divided by it
    dropout: float = 0.0  # probability of dropout on the tokens
    # step: add the embedding of each step's timestep. window: add that of the window's first step to all its tokens,
    # and to each token the embedding of its position in the window (Decision Transformer's code for Atari). none: add
    # nothing, so that no timestep is later than those of the training.
    timestep: str = "step"
    # norm: a layer norm over each token (Gym). tanh: a tanh of each embedding, before time is added (Atari).
    embedding: str = "norm"
    context: int = 1  # K, for the table of positions
    # gpt2: embeddings, and the encoder of state vectors, start as N(0, 0.02) with zero biases, as in transformers' port
    # of Decision Transformer. torch: PyTorch's own start (its code for Gym). mingpt: PyTorch's own, but N(0, 0.02) for
    # actions, and zeros for the tables of time and position (its code for Atari).
    init: str = "gpt2"
    layout: str = "rsa"  # a key of LAYOUTS


class TrajectoryTokenizer(nn.Module):
    """Embed (return-to-go, state, action) of each step, or those that the layout has, add time, interleave.

    ``encoder`` takes states (..., *observation) to (..., d_model). Discrete actions are integers from 0 to size - 1.
    """

    def __init__(self, encoder: nn.Module, actions: ActionSpace, d_model: int, config: TokenConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.kinds = LAYOUTS[config.layout]
        of_action = nn.Embedding if actions.discrete else nn.Linear
        self.embed_return = nn.Linear(1, d_model) if "return" in self.kinds else None
        self.embed_action = of_action(actions.size, d_model) if "action" in self.kinds else None
        self.embed_timestep = None if config.timestep == "none" else nn.Embedding(config.max_timesteps, d_model)
        # One row more than there are tokens, as in the original, whose number of parameters was published.
        rows = len(self.kinds) * config.context + 1
        self.embed_place = None if self.slides else nn.Embedding(rows, d_model)
        own = [self.embed_return, self.embed_action, self.embed_timestep, self.embed_place]
        self.norm = nn.LayerNorm(d_model) if config.embedding == "norm" else nn.Identity()
        self.squash = nn.Tanh() if config.embedding == "tanh" else nn.Identity()
        self.dropout = Dropout(config.dropout)
        # An encoder of pixels keeps PyTorch's start, as in Decision Transformer's code for Atari.
        others = encoder.modules() if isinstance(encoder, VectorEncoder) else ()
        small = {"gpt2": (*others, *own), "mingpt": (self.embed_action,), "torch": ()}[config.init]
        for module in small:
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        for table in (self.embed_timestep, self.embed_place):
            if config.init == "mingpt" and table is not None:
                nn.init.zeros_(table.weight)

    @property
    def slides(self) -> bool:
        """Whether a token stays the same when the window moves by one step."""
        return self.config.timestep != "window"

    @property
    def states(self) -> slice:
        """Positions of a window's state tokens. The backbone's output there gives the actions."""
        return slice(self.kinds.index("state"), None, len(self.kinds))

    def length(self, steps: int) -> int:
        """Tokens of a window of so many steps, up to the last state."""
        return len(self.kinds) * (steps - 1) + self.kinds.index("state") + 1

    def _add_time(self, parts: list[Tensor], timesteps: Tensor) -> list[Tensor]:
        """Parts of steps, (…, d_model) each, with the embedding of the ``timesteps`` (…) added."""
        if self.embed_timestep is None:
            return parts
        time = self.embed_timestep(timesteps.clamp(max=self.config.max_timesteps - 1))
        return [part + time for part in parts]

    def _finish(self, tokens: Tensor) -> Tensor:
        return self.dropout(self.norm(tokens))  # type: ignore[no-any-return]

    def _of_action(self, actions: Tensor | None) -> list[Tensor]:
        if self.embed_action is None or actions is None:
            return []
        return [self.squash(self.embed_action(actions))]

    def _return_and_state(self, returns_to_go: Tensor, states: Tensor) -> list[Tensor]:
        state = self.squash(self.encoder(states))
        if self.embed_return is None:
            return [state]
        return [self.squash(self.embed_return(returns_to_go.unsqueeze(-1) / self.config.return_scale)), state]

    def forward(self, returns_to_go: Tensor, states: Tensor, actions: Tensor, timesteps: Tensor) -> Tensor:
        """Tokens of complete `Windows`, (batch, tokens, d_model): R_1, s_1, a_1, R_2, … Timesteps are the episode's."""
        parts = [*self._return_and_state(returns_to_go, states), *self._of_action(actions)]
        if not self.slides:
            return self.add_positions(torch.stack(parts, dim=2).flatten(1, 2), timesteps[:, :1])
        return self._finish(torch.stack(self._add_time(parts, timesteps), dim=2).flatten(1, 2))

    def add_positions(self, contents: Tensor, first: Tensor) -> Tensor:
        """Tokens of a window that starts with a step's first token, if they do not slide: (batch, length, d_model).

        ``contents``, of the same shape, come from ``next_contents``. ``first`` (batch, 1) is its first timestep.
        """
        assert self.embed_place is not None
        (timed,) = self._add_time([contents], first)
        return self._finish(timed + self.embed_place.weight[: contents.shape[1]])

    def next_contents(self, actions: Tensor | None, returns_to_go: Tensor, states: Tensor) -> list[Tensor]:
        """What arrived since the last decision, without time: a_{t-1} unless t is 0, R_t, s_t, (batch, d_model) each,
        or those that the layout has.

        Shapes as in `Windows`, without the axis of steps. ``actions`` are the previous step's, None on the first.
        """
        return [*self._of_action(actions), *self._return_and_state(returns_to_go, states)]

    def next_tokens(self, actions: Tensor | None, returns_to_go: Tensor, states: Tensor, time: int) -> Tensor:
        """``next_contents`` with the step's ``time`` added, if tokens slide: (batch, 1 to 3, d_model)."""
        assert self.slides, "these tokens depend on where the window starts"
        parts = self.next_contents(actions, returns_to_go, states)
        if self.embed_timestep is not None:
            table = self.embed_timestep.weight
            now, before = (table[min(t, len(table) - 1)] for t in (time, max(0, time - 1)))
            earlier = int(self.embed_action is not None and actions is not None)
            parts = [part + (before if i < earlier else now) for i, part in enumerate(parts)]
        return self._finish(torch.stack(parts, dim=1))

    def tokens_at(self, contents: list[Tensor], timesteps: Tensor) -> Tensor:
        """``next_contents`` of one step with its time added, as ``next_tokens`` but for timesteps (batch,) in a tensor:
        (batch, tokens, d_model)."""
        assert self.slides, "these tokens depend on where the window starts"
        return self._finish(torch.stack(self._add_time(contents, timesteps), dim=1))
