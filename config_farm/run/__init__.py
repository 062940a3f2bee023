"""What a config script runs: description, data, starting point, engine, validation, and the run itself."""
