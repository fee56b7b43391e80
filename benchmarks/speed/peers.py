"""Other packages' implementations of the same models, put where a backbone of ours would be; each is optional."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from backbench.agents.agent import Agent, Windows
from backbench.backbones.contract import Mixer, Spec, State
from backbench.backbones.mixers.mamba import Mamba, MambaOptions
from backbench.backbones.mixers.transformer import TransformerOptions
from backbench.benchmarks.speed.config import ACTION, EPISODE, OBSERVATION, RETURN_SCALE, SpeedConfig
from backbench.benchmarks.speed.models import Policy, Subject, Weight, agent
from backbench.benchmarks.speed.report import Missing


class _MambaPeer(Mixer):
    """Another package's Mamba block in our residual stack: only the mixer differs, and its weights are called alike."""

    Options: ClassVar[type] = MambaOptions
    block: Any

    def __init__(self, options: MambaOptions, spec: Spec) -> None:
        super().__init__(options, spec)
        self.ffn_activation = options.activation if options.mlp else None

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)  # type: ignore[no-any-return]

    def flops(self, length: int) -> float:
        with torch.device("meta"):
            return Mamba(self.options, self.spec).flops(length)


class MambapyMixer(_MambaPeer):
    """mambapy's block, with its parallel scan."""

    def __init__(self, options: MambaOptions, spec: Spec) -> None:
        super().__init__(options, spec)
        package = importlib.import_module("mambapy.mamba")
        config = package.MambaConfig(
            d_model=spec.d_model,
            n_layers=1,
            d_state=options.d_state,
            d_conv=options.d_conv,
            expand_factor=options.expand,
            dt_rank=options.dt_rank or "auto",
        )
        self.block = package.MambaBlock(config)

    def initial_state(self, batch: int, device: Any = None, dtype: torch.dtype | None = None) -> State:
        """The scan's state, and the convolution's last inputs."""
        channels, d_state = self.block.A_log.shape
        like = self.block.A_log.new_zeros(0, device=device, dtype=dtype)
        return like.new_zeros(batch, channels, d_state), like.new_zeros(batch, channels, self.options.d_conv - 1)

    def step(self, x_t: Tensor, state: State) -> tuple[Tensor, State]:
        y, after = self.block.step(x_t, state)
        return y, after


class MambaSSMMixer(_MambaPeer):
    """mamba-ssm's block, with its fused CUDA kernels. Recurrent acting recomputes a window: its step is not used."""

    def __init__(self, options: MambaOptions, spec: Spec) -> None:
        super().__init__(options, spec)
        self.block = importlib.import_module("mamba_ssm.modules.mamba_simple").Mamba(
            d_model=spec.d_model,
            d_state=options.d_state,
            d_conv=options.d_conv,
            expand=options.expand,
            dt_rank=options.dt_rank or "auto",
        )


class DecisionTransformer(Policy):
    """transformers' DecisionTransformerModel, with the loss of its training example: squared error on real steps."""

    def __init__(self, options: TransformerOptions, config: SpeedConfig, context: int) -> None:
        super().__init__()
        package = importlib.import_module("transformers")
        package.logging.set_verbosity_error()
        shape = config.model
        self.model = package.DecisionTransformerModel(
            package.DecisionTransformerConfig(
                state_dim=OBSERVATION,
                act_dim=ACTION,
                hidden_size=shape.d_model,
                n_layer=shape.n_layers,
                n_head=options.n_heads,
                activation_function={"gelu_tanh": "gelu_new"}.get(options.activation, options.activation),
                max_ep_len=EPISODE,
                n_positions=3 * context,
                vocab_size=1,
                resid_pdrop=shape.dropout,
                embd_pdrop=shape.dropout,
                attn_pdrop=shape.dropout,
            )
        )

    def forward(self, returns_to_go: Tensor, states: Tensor, actions: Tensor, timesteps: Tensor) -> Tensor:
        predicted: Tensor = self.model(
            states=states,
            actions=actions,
            returns_to_go=(returns_to_go / RETURN_SCALE).unsqueeze(-1),
            timesteps=timesteps,
            attention_mask=timesteps.new_ones(timesteps.shape),
        ).action_preds
        return predicted

    def loss(self, batch: Windows) -> Tensor:
        actions = self(batch.returns_to_go, batch.states, batch.actions, batch.timesteps)
        real = batch.mask.reshape(-1)
        error: Tensor = actions.flatten(0, 1)[real] - batch.actions.flatten(0, 1)[real]
        return error.square().mean()


def same_names(ours: nn.Module, theirs: nn.Module) -> list[Weight]:
    """Parameters by their names, which are the same in both."""
    others = dict(theirs.named_parameters())
    return [Weight(name, p, others.pop(name)) for name, p in ours.named_parameters()]


def decision_transformer_weights(ours: nn.Module, theirs: nn.Module) -> list[Weight]:
    """All parameters of our agent with a transformer, and what transformers calls them.

    GPT-2's layers hold a linear map transposed. Its position embedding, of which one row is added to every token, is
    zeroed: ours has none.
    """
    assert isinstance(ours, Agent)
    names = {
        "tokenizer.encoder.project": "embed_state",
        "tokenizer.embed_return": "embed_return",
        "tokenizer.embed_action": "embed_action",
        "tokenizer.embed_timestep": "embed_timestep",
        "tokenizer.norm": "embed_ln",
        "backbone.norm": "encoder.ln_f",
        "head.project": "predict_action.0",
    }
    parts = {"norm1": "ln_1", "norm2": "ln_2", "mixer.qkv_proj": "attn.c_attn", "mixer.out_proj": "attn.c_proj"}
    parts |= {"ffn.up": "mlp.c_fc", "ffn.down": "mlp.c_proj"}
    for i in range(ours.backbone.spec.n_layers):
        names |= {f"backbone.layers.{i}.{mine}": f"encoder.h.{i}.{peer}" for mine, peer in parts.items()}
    model = theirs.get_submodule("model")
    with torch.no_grad():
        model.get_parameter("encoder.wpe.weight").zero_()
    found = []
    for name, parameter in ours.named_parameters():
        owner, _, kind = name.rpartition(".")
        peer = names[owner]
        transposed = ".h." in peer and parameter.dim() == 2
        found.append(Weight(name, parameter, model.get_parameter(f"{peer}.{kind}"), transposed))
    return found


def _options(cls: type, config: SpeedConfig) -> dict[str, object]:
    """Those of the user's options that the backbone has."""
    known = {field.name for field in dataclasses.fields(cls)}
    return {name: value for name, value in config.options.items() if name in known}


def _mamba(name: str, mixer: type[Mixer]) -> Callable[[SpeedConfig], Subject]:
    def make(config: SpeedConfig) -> Subject:
        options = _options(MambaOptions, config)
        twin = Subject("mamba", lambda config, context: agent("mamba", options, config, context))
        return Subject(name, lambda config, context: agent(mixer, options, config, context), twin, same_names)

    return make


def _decision_transformer(config: SpeedConfig) -> Subject:
    options = _options(TransformerOptions, config)
    made = TransformerOptions(**options)  # type: ignore[arg-type]
    twin = Subject("transformer", lambda config, context: agent("transformer", options, config, context))
    return Subject(
        "DecisionTransformerModel",
        lambda config, context: DecisionTransformer(made, config, context),
        twin,
        decision_transformer_weights,
    )


@dataclasses.dataclass(frozen=True)
class Peer:
    """A peer: the module it needs, the command that installs it, and how it becomes a subject."""

    module: str
    command: str
    make: Callable[[SpeedConfig], Subject]
    cuda_only: bool = False


PEERS = {
    "DecisionTransformerModel": Peer("transformers", "pip install 'transformers>=5,<6'", _decision_transformer),
    "mambapy": Peer("mambapy", "pip install mambapy==1.2.0", _mamba("mambapy", MambapyMixer)),
    "mamba-ssm": Peer(
        "mamba_ssm",
        "pip install --no-build-isolation causal-conv1d mamba-ssm (CUDA and nvcc)",
        _mamba("mamba-ssm", MambaSSMMixer),
        cuda_only=True,
    ),
}


def peers(config: SpeedConfig, device: torch.device) -> tuple[list[Subject], list[Missing]]:
    """The peers that are installed, and those that are not, each with the command that brings it."""
    here, missing = [], []
    for name, peer in PEERS.items():
        if importlib.util.find_spec(peer.module) is None:
            missing.append(Missing(name=name, reason=f"not installed: {peer.command}"))
        elif peer.cuda_only and device.type != "cuda":
            missing.append(Missing(name=name, reason="runs on CUDA only: --device cuda"))
        else:
            here.append(peer.make(config))
    return here, missing
