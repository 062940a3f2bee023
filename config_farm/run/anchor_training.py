"""How detectors with anchors are trained: what RetinaFace and the ultra-light ones have in common."""

from __future__ import annotations

from typing import Any

ANCHOR_TRAINING: dict[str, Any] = {
    "loss.score": "cross-entropy",
    "loss.box": "smooth-l1",
    "loss.score_weight": 1.0,
    "loss.landmarks_weight": 1.0,
    "loss.mining": "all",
    "loss.negatives_without_positive": 0.0,
    "optimizer.name": "sgd",
    "optimizer.weight_decay": 5e-4,
    "optimizer.clip_norm": 0.0,
    "schedule.shape": "steps",
    "schedule.factor": 0.1,
}
"""Fields of the run, as a `Script` names them.

Softmax loss with hard negatives chosen among all anchors (MultiBox loss, arXiv 1512.02325), smooth L1 of box and point
codes, SGD with momentum and a rate that falls in steps.
"""

ULTRA_LIGHT: dict[str, Any] = {
    **ANCHOR_TRAINING,
    "batch_size": 24,
    "iterations": 107_000,  # 200 times the 12,880 training images
    "loss.box_weight": 1.0,
    "loss.negatives_per_positive": 3.0,
    "schedule.learning_rate": 0.01,
    "schedule.milestones": (0.475, 0.75),
}
"""Of slim-320 and RFB-320, which differ in their network alone."""
