"""What is measured: tasks, data, environments, training, evaluation, the grid and the command line."""
