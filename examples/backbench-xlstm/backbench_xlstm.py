"""The authors' own xLSTM (arXiv:2405.04517) as a backbone."""

from xlstm.blocks.mlstm.layer import mLSTMLayer, mLSTMLayerConfig

from backbench.backbones.adapt import adapt


def mlstm_layer(**settings):
    """The mLSTM layer of the package xlstm."""
    return mLSTMLayer(mLSTMLayerConfig(**settings))


MLSTM = adapt(mlstm_layer, embedding_dim="{d_model}", context_length="{max_length}", num_heads=4, proj_factor=2.0)
