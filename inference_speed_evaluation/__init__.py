"""Latency by engine, resolution, precision, threads and batch.

`inference_speed_eval.py` is the command. Each row runs in a process of its own (`worker.py`), and every round runs all
rows in turn (`sweep.py`). A new engine appears here by itself once `lffd/engines/factory.py` lists it; a new kind of
detector needs a function in `worker.py` that returns its pass.
"""
