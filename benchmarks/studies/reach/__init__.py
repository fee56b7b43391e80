"""How far back a policy looks. Each module measures one thing of an agent on windows, and writes nothing.

eigenvalues and time_constants describe how fast states decay, so only some backbones have them. density (gradients)
and causal (replaced pasts) compare every backbone. attention is for the transformers. sample takes windows from data.
"""
