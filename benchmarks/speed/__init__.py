"""``bench speed``: what backbones cost on this machine, beside their peers; nothing is timed before it proved equal."""
