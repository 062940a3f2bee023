"""Training without a task: the loop, the interface of engines, options, checkpoints, log."""
