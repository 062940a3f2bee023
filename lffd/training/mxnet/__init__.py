"""Training with MXNet."""
