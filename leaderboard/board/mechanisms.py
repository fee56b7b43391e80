"""How a backbone keeps the past: what a reader groups rows by."""

# Of the built-in backbones. A plug-in says nothing about itself in its records.
MECHANISMS: dict[str, tuple[str, ...]] = {
    "attention": ("transformer", "transformerpp"),
    "convolution": ("convformer",),
    "gated recurrence": ("gru", "lstm", "slstm"),
    "diagonal recurrence": ("mamba", "gloma", "s5", "lru", "rglru", "mingru"),
    "linear attention": ("linear_attention", "retnet", "gla", "hgrn2", "mamba2", "mlstm"),
    "delta rule": ("deltanet", "gated_deltanet", "rwkv7"),
    "no memory": ("mlp", "identity"),
}
MEANING = {
    "attention": "keeps every token",
    "convolution": "sees a fixed number of steps",
    "gated recurrence": "a vector that is not linear in its past",
    "diagonal recurrence": "channels that decay and add, each by itself",
    "linear attention": "a matrix of sums over keys and values",
    "delta rule": "a matrix in which a key's old value is replaced",
    "no memory": "sees one step",
    "hybrid": "several of these in one stack",
    "other": "not built in",
}


def mechanism(backbone: str) -> str:
    """A key of ``MEANING``."""
    if "+" in backbone:
        return "hybrid"
    return next((name for name, backbones in MECHANISMS.items() if backbone in backbones), "other")
