"""Trajectories to tokens: (R, s, a) triples in the order of Decision Transformer (arXiv:2106.01345, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from backbench.agents.encoders import PixelEncoder
from backbench.backbones.dropout import Dropout

TOKENS_PER_STEP = 3
RETURN, STATE, ACTION = range(TOKENS_PER_STEP)  # a token's place within its step
TIMESTEPS = ("step", "window")
EMBEDDINGS = ("norm", "tanh")


@dataclass(frozen=True)
class TokenConfig:
    """How tokens are made; the defaults are the Decision Transformer's on Gym.

    Attributes:
        max_timesteps: rows of the timestep table; later timesteps share its last row.
        return_scale: returns-to-go are divided by it.
        dropout: probability, at the end.
        timestep: ``step`` adds the embedding of each step's own timestep. ``window`` adds that of the window's first
            step to all its tokens, and to each token one of its place (Decision Transformer's code for Atari).
        embedding: ``norm`` is a layer norm over each token, ``tanh`` a tanh of what is embedded, before time is added
            (Decision Transformer's code for Gym and for Atari).
        context: K, of the table of places.
    """

    max_timesteps: int
    return_scale: float
    dropout: float = 0.0
    timestep: str = "step"
    embedding: str = "norm"
    context: int = 1


class TrajectoryTokenizer(nn.Module):
    """Embed (return-to-go, state, action) of each step, add time, interleave.

    Args:
        encoder: states (..., *observation) to (..., d_model).
        actions: size of a continuous action, or the number of numbered ones.
        d_model: width of a token.
        config: the rest.
        numbered: whether actions are numbers from 0 to ``actions - 1``.
    """

    def __init__(
        self, encoder: nn.Module, actions: int, d_model: int, config: TokenConfig, numbered: bool = False
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.embed_return = nn.Linear(1, d_model)
        self.embed_action = nn.Embedding(actions, d_model) if numbered else nn.Linear(actions, d_model)
        self.embed_timestep = nn.Embedding(config.max_timesteps, d_model)
        own = [self.embed_return, self.embed_action, self.embed_timestep]
        # A place more than there are tokens: the original has it, and its number of parameters is a published one.
        self.embed_place: nn.Embedding | None = None
        if config.timestep == "window":
            self.embed_place = nn.Embedding(TOKENS_PER_STEP * config.context + 1, d_model)
            own.append(self.embed_place)
        self.norm = nn.LayerNorm(d_model) if config.embedding == "norm" else nn.Identity()
        self.squash = nn.Tanh() if config.embedding == "tanh" else nn.Identity()
        self.dropout = Dropout(config.dropout)
        # Decision Transformer's code for Gym starts all alike; that for Atari leaves the encoder as PyTorch does.
        others = () if isinstance(encoder, PixelEncoder) else encoder.modules()
        for module in (*others, *own):
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    @property
    def slides(self) -> bool:
        """Whether a token stays the same when the window moves on by a step."""
        return self.config.timestep == "step"

    def _time(self, timesteps: Tensor) -> Tensor:
        rows: Tensor = self.embed_timestep(timesteps.clamp(max=self.embed_timestep.num_embeddings - 1))
        return rows

    def _finish(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.dropout(self.norm(tokens))
        return out

    def _return(self, returns_to_go: Tensor) -> Tensor:
        embedded: Tensor = self.squash(self.embed_return(returns_to_go.unsqueeze(-1) / self.config.return_scale))
        return embedded

    def _state(self, states: Tensor) -> Tensor:
        embedded: Tensor = self.squash(self.encoder(states))
        return embedded

    def _action(self, actions: Tensor) -> Tensor:
        embedded: Tensor = self.squash(self.embed_action(actions))
        return embedded

    def forward(self, returns_to_go: Tensor, states: Tensor, actions: Tensor, timesteps: Tensor) -> Tensor:
        """Tokens of whole windows.

        Args:
            returns_to_go: (batch, K) unscaled.
            states: (batch, K, *observation).
            actions: (batch, K, action_dim), or (batch, K) integer where they are numbered.
            timesteps: (batch, K) integer, counted from the episode's start.

        Returns:
            (batch, 3K, d_model), ordered R_1, s_1, a_1, R_2, …
        """
        parts = (self._return(returns_to_go), self._state(states), self._action(actions))
        if not self.slides:
            return self.place(torch.stack(parts, dim=2).flatten(1, 2), timesteps[:, :1])
        time = self._time(timesteps)  # (batch, K, d_model)
        return self._finish(torch.stack([part + time for part in parts], dim=2).flatten(1, 2))

    def place(self, contents: Tensor, first: Tensor) -> Tensor:
        """Tokens of a window from their contents, where tokens do not slide.

        Args:
            contents: (batch, length, d_model) from ``next_contents``, of a window that begins with a return-to-go.
            first: (batch, 1) integer timestep of the window's first step.
        """
        assert self.embed_place is not None
        return self._finish(contents + self._time(first) + self.embed_place.weight[: contents.shape[1]])

    def next_contents(self, actions: Tensor | None, returns_to_go: Tensor, states: Tensor) -> list[Tensor]:
        """What came in since the last decision, when acting, without time: a_{t-1}, R_t, s_t, (batch, d_model) each.

        Args:
            actions: (batch, action_dim), or (batch,) integer, of the step before; None on the first step, which has no
                action before it.
            returns_to_go: (batch,) unscaled.
            states: (batch, *observation).
        """
        before = [] if actions is None else [self._action(actions)]
        return [*before, self._return(returns_to_go), self._state(states)]

    def next_tokens(self, actions: Tensor | None, returns_to_go: Tensor, states: Tensor, time: int) -> Tensor:
        """``next_contents`` with the embedding of each one's step, where tokens slide.

        ``time`` is the step's, counted from the episode's start. (batch, 3, d_model), or 2 tokens on the first step.
        """
        assert self.slides, "these tokens depend on where the window begins"
        table = self.embed_timestep.weight
        now, before = (table[min(t, len(table) - 1)] for t in (time, max(0, time - 1)))
        *action, ret, state = self.next_contents(actions, returns_to_go, states)
        return self._finish(torch.stack([*(a + before for a in action), ret + now, state + now], dim=1))
