"""Validation during training: the average precision of the model as it would be deployed, on a pack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from accuracy_evaluation.evaluation_on_pack import detect_records, load_record
from detection.crew import Crew
from detection.detector import Detector
from detection.drawing import draw_detections
from detection.selection import Selection
from lffd.errors import UsageError
from lffd.files import write_atomic
from lffd.graphs.model import Model
from lffd.images.encoded import encode
from lffd.records import Record, RecordSource
from metric_farm.average_precision import average_precision

COUNTED_DETECTIONS = 1000
"""Best detections of an image that count; COCO's 100 are fewer than the faces of a crowd."""

EVALUATION = Selection()
"""What the evaluations of this project count: scores from 0.02, IoU suppression at 0.45."""

UNSEEN_SEED = 1_000_003
"""Added to the run's seed for drawn validation images, so that they are never those that were learnt from."""


class Subset:
    """Some records of a source, spread evenly over it."""

    def __init__(self, source: RecordSource, count: int) -> None:
        self._source, total = source, len(source)
        self._indices = np.linspace(0, total, min(count or total, total), endpoint=False).astype(int).tolist()

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Record:
        return self._source[self._indices[index]]


class PackValidator:
    """Measures models on `count` records of the validation data (0: all) that the user named `data`."""

    def __init__(self, source: RecordSource, data: str, count: int) -> None:
        self._records, self._data = Subset(source, count), data
        if not len(self._records):
            raise UsageError(f"--val-data {data} holds no image")

    def scores(self, model: Model) -> dict[str, float]:
        """Return `AP50` (which decides what is best) and `AP` (mean over IoU 0.50–0.95) of a model, 0–1."""
        crew = Crew(lambda runtime: Detector(model, EVALUATION, runtime=runtime))
        truth, found, _ = detect_records(crew, self._records)
        figures = average_precision(truth, found, COUNTED_DETECTIONS)
        if figures.objects == 0:
            raise UsageError(f"--val-data {self._data} holds no object that counts: there is nothing to measure")
        return {"AP50": figures.ap50, "AP": figures.ap}

    def draw(self, model: Model, folder: Path, count: int) -> int:
        """Write pictures of the first `count` images with what the model finds; return how many there are."""
        folder.mkdir(parents=True, exist_ok=True)
        detector, shown = Detector(model), min(count, len(self._records))
        for index in range(shown):
            pixels, _ = load_record(self._records, index)
            drawn = draw_detections(pixels, detector(pixels))
            write_atomic(folder / f"{index:03d}.jpg", encode(drawn, 95), durable=False)
        return shown

    def protocol(self) -> dict[str, Any]:
        """Return how the scores were measured, for the model's card."""
        return {
            "protocol": "COCO, one class, ignored objects as crowds, images at their own size, one inference each",
            "data": self._data,
            "images": len(self._records),
            "score_threshold": EVALUATION.score_threshold,
            "counted_detections": COUNTED_DETECTIONS,
        }
