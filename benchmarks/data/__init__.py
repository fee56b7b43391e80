"""Data: sources, the Minari store, trajectories in memory and the windows drawn from them."""
