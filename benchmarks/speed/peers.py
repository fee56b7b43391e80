"""Peers: other packages' implementations of the same models. Each is optional."""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from backbench.agents.agent import Agent, Windows
from backbench.backbones.mixers.transformer import TransformerOptions
from backbench.benchmarks.speed import peer_layers as layers
from backbench.benchmarks.speed.config import ACTION, EPISODE, OBSERVATION, RETURN_SCALE, SpeedConfig
from backbench.benchmarks.speed.models import Model, PeerPolicy, Policy, Weight, agent, alone, same_names
from backbench.benchmarks.speed.report import Missing


class DecisionTransformer(PeerPolicy):
    """transformers' DecisionTransformerModel with the loss of its training example: squared error on real steps."""

    def __init__(self, options: dict[str, Any], config: SpeedConfig, context: int) -> None:
        super().__init__()
        ours = TransformerOptions(**options)
        package = importlib.import_module("transformers")
        package.logging.set_verbosity_error()
        shape = config.model
        activation = {"gelu_tanh": "gelu_new"}.get(ours.activation, ours.activation)
        settings = package.DecisionTransformerConfig(
            state_dim=OBSERVATION, act_dim=ACTION, max_ep_len=EPISODE, n_positions=3 * context, vocab_size=1,
            hidden_size=shape.d_model, n_layer=shape.n_layers, n_head=ours.n_heads, activation_function=activation,
            resid_pdrop=shape.dropout, embd_pdrop=shape.dropout, attn_pdrop=shape.dropout,
        )  # fmt: skip
        self.model = package.DecisionTransformerModel(settings)

    def forward(self, returns_to_go: Tensor, states: Tensor, actions: Tensor, timesteps: Tensor) -> Tensor:
        inputs = {"states": states, "actions": actions, "timesteps": timesteps}
        returns = (returns_to_go / RETURN_SCALE).unsqueeze(-1)
        mask = timesteps.new_ones(timesteps.shape)
        return self.model(**inputs, returns_to_go=returns, attention_mask=mask).action_preds  # type: ignore[no-any-return]

    def loss(self, batch: Windows) -> Tensor:
        actions = self(batch.returns_to_go, batch.states, batch.actions, batch.timesteps)
        real = batch.mask.reshape(-1)
        error: Tensor = actions.flatten(0, 1)[real] - batch.actions.flatten(0, 1)[real]
        return error.square().mean()


def decision_transformer_weights(ours: nn.Module, theirs: nn.Module) -> list[Weight]:
    """Every parameter of our agent with a transformer, and the one of transformers' model.

    GPT-2's layers hold a linear map transposed. Our model has no position embedding, so GPT-2's is set to zero.
    """
    assert isinstance(ours, Agent)
    names = {
        "tokenizer.encoder.project": "embed_state", "tokenizer.embed_return": "embed_return",
        "tokenizer.embed_action": "embed_action", "tokenizer.embed_timestep": "embed_timestep",
        "tokenizer.norm": "embed_ln", "backbone.norm": "encoder.ln_f", "head.project": "predict_action.0",
    }  # fmt: skip
    inner = {
        "norm1": "ln_1", "norm2": "ln_2", "mixer.qkv_proj": "attn.c_attn", "mixer.out_proj": "attn.c_proj",
        "ffn.up": "mlp.c_fc", "ffn.down": "mlp.c_proj",
    }  # fmt: skip
    for i in range(ours.backbone.spec.n_layers):
        names |= {f"backbone.layers.{i}.{mine}": f"encoder.h.{i}.{other}" for mine, other in inner.items()}
    model = theirs.get_submodule("model")
    with torch.no_grad():
        model.get_parameter("encoder.wpe.weight").zero_()
    found = []
    for name, parameter in ours.named_parameters():
        owner, _, kind = name.rpartition(".")
        transposed = ".h." in names[owner] and parameter.dim() == 2
        other = model.get_parameter(f"{names[owner]}.{kind}")
        found.append(Weight(name, other, (parameter,), torch.t if transposed else alone))
    return found


@dataclass(frozen=True)
class Peer:
    """A peer: the backbone it must equal, the module it needs, the command that installs it, and how it is built."""

    ours: str
    options: type
    module: str
    command: str
    build: Callable[[dict[str, Any], SpeedConfig, int], Policy]  # from the backbone's options and a context
    weights: Callable[[nn.Module, nn.Module], list[Weight]] = same_names
    cuda_only: bool = False

    def model(self, name: str, config: SpeedConfig) -> Model:
        """Built from the user's options that the backbone has."""
        known = {field.name for field in fields(self.options)}
        options = {key: value for key, value in config.options.items() if key in known}
        ours = Model(self.ours, partial(agent, self.ours, options))
        return Model(name, partial(self.build, options), ours, self.weights)


TRANSFORMERS = "pip install 'transformers>=5,<6'"


def of_layer(ours: str, layer: type[layers.LayerPeer], module: str, command: str, **facts: Any) -> Peer:
    """A peer that is one layer in our agent."""
    return Peer(ours, layer.Options, module, command, partial(agent, layer), **facts)


def of_transformers(ours: str, layer: type[layers.LayerPeer], arrangement: layers.Arrangement) -> Peer:
    """A layer of transformers in our agent."""
    return of_layer(ours, layer, "transformers", TRANSFORMERS, weights=layers.in_layers(arrangement))


PEERS = {
    "DecisionTransformerModel": Peer(
        "transformer", TransformerOptions, "transformers", TRANSFORMERS, DecisionTransformer,
        decision_transformer_weights,
    ),
    "mambapy": of_layer("mamba", layers.MambapyMixer, "mambapy", "pip install mambapy==1.2.0"),
    "mamba-ssm": of_layer(
        "mamba", layers.MambaSSMMixer, "mamba_ssm",
        "pip install --no-build-isolation causal-conv1d mamba-ssm (CUDA and nvcc)", cuda_only=True,
    ),
    "Mamba2Mixer": of_transformers("mamba2", layers.Mamba2Peer, layers.mamba2),
    "Qwen3NextGatedDeltaNet": of_transformers("gated_deltanet", layers.GatedDeltaNetPeer, layers.gated_deltanet),
    "RecurrentGemma": of_transformers("rglru", layers.RGLRUPeer, layers.rglru),
    "LlamaAttention": of_transformers("transformerpp", layers.LlamaPeer, layers.transformerpp),
}  # fmt: skip


def peers(config: SpeedConfig) -> tuple[list[Model], list[Missing]]:
    """The peers of the measured backbones that run here, and the others with the reason."""
    here, missing = [], []
    for name, peer in PEERS.items():
        if peer.ours not in config.backbones:
            continue
        if importlib.util.find_spec(peer.module) is None:
            missing.append(Missing(name=name, reason=f"not installed: {peer.command}"))
        elif peer.cuda_only and torch.device(config.device).type != "cuda":
            missing.append(Missing(name=name, reason="runs on CUDA only: --device cuda"))
        else:
            here.append(peer.model(name, config))
    return here, missing
