"""What `predict.py` is made of: where images come from, the run, where results go."""
