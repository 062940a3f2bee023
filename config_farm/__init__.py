"""One script per version: it assembles data, symbol, loss, metrics and schedule into a run, and starts it."""
