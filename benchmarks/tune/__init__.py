"""How settings are chosen before cells are reported: the trials of ``--tune``."""
