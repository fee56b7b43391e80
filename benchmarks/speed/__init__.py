"""``bench speed``: cost of backbones and their peers on this machine. Nothing is timed before it is proved equal."""
