"""What all the farms share: geometry, boxes, experiments, the training loop, checkpoints, models and engines.

Nothing here imports a farm (`tests/test_imports.py` holds this), nothing runs at import, and MXNet is imported only
when a network is first built or run. Add here what more than one farm needs and what does not depend on a version.
"""
