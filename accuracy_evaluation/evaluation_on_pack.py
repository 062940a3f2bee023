"""Run a detector over a pack and compute COCO's average precision (AP): at IoU 0.5, and the mean over 0.5 to 0.95."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from accuracy_evaluation.output_files import write_json
from data_provider_farm.pack_format.packed_file import PackReader
from detection.crew import Crew
from detection.load import DetectorOptions, model_facts
from lffd import cli
from lffd.errors import DataError
from lffd.files import check_output
from lffd.images.encoded import decode
from lffd.records import Record, RecordSource
from metric_farm.average_precision import (
    MAX_DETECTIONS,
    AveragePrecision,
    Found,
    Truth,
    average_precision,
    to_coco,
    to_coco_results,
)


@dataclass(frozen=True, kw_only=True)
class Options(DetectorOptions):
    """What to evaluate, and on what."""

    pack: Path
    """The pack's .rec file; its .idx lies beside it."""
    counted_detections: int = MAX_DETECTIONS
    """How many of the best detections of each image count. COCO's protocol takes 100; crowded sets need more."""
    json: Path | None = None
    """Write the figures to this file."""
    coco_dir: Path | None = None
    """Write ground_truth.json and detections.json here in COCO's form, for any other evaluator."""


def load_record(source: RecordSource, index: int) -> tuple[NDArray[np.uint8], Record]:
    """Return the image `(H, W, 3)` uint8, BGR, of a record, and the record."""
    record = source[index]
    return decode(record.image, record.name, size=(record.width, record.height)), record


def detect_records(crew: Crew, source: RecordSource) -> tuple[list[Truth], list[Found], list[str]]:
    """Return the objects, the detections and the name of every image of a source.

    Raises:
        DataError: when the source is empty, or a record is damaged.
    """
    if not len(source):
        raise DataError("the pack holds no image")
    truth, found, names = list[Truth](), list[Found](), list[str]()
    pictures = crew.over(lambda index: load_record(source, index), range(len(source)))
    for record, detections in tqdm(pictures, crew.first.name, len(source), unit="image", disable=None):
        truth.append((record.boxes, record.ignored))
        found.append((detections.boxes, detections.scores))
        names.append(record.name)
    return truth, found, names


def to_text(figures: AveragePrecision) -> str:
    """Return the figures for people."""
    rows = [
        ("AP at IoU 0.50", figures.ap50),
        ("AP at IoU 0.75", figures.ap75),
        ("AP at IoU 0.50:0.95", figures.ap),
        ("  small (under 32² pixels)", figures.ap_small),
        ("  medium (up to 96²)", figures.ap_medium),
        ("  large", figures.ap_large),
        ("largest recall, 0.50:0.95", figures.recall),
    ]
    lines = [f"{figures.images:,} images, {figures.objects:,} objects"]
    lines += [f"{name:28}" + (f"{value:7.4f}" if np.isfinite(value) else f"{'–':>7}") for name, value in rows]
    if figures.crowded_images:
        lines.append(
            f"{figures.crowded_images:,} images have more than the {figures.max_detections} objects that can be found "
            "under COCO's protocol; --counted-detections raises the limit"
        )
    return "\n".join(lines)


def main(options: Options) -> None:
    """Evaluate a detector on any pack with the COCO evaluator.

    Ignored objects count as COCO's crowds: detections on them are neither right nor wrong.
    """
    check_output(options.json, marks=('{"model":',))
    if options.coco_dir:
        check_output(options.coco_dir / "ground_truth.json", marks=('"categories": [{"id": 1, "name": "object"}]',))
        check_output(options.coco_dir / "detections.json", marks=('[{"image_id":', "[]"))
    facts = model_facts(options.model)
    with PackReader(options.pack) as source:
        truth, found, names = detect_records(Crew(options.make_detector, options.runtime), source)
    figures = average_precision(truth, found, options.counted_detections)
    print(to_text(figures))
    values = {name: value if np.isfinite(value) else None for name, value in asdict(figures).items()}
    write_json(options.json, {"model": facts.spec, "sha256": facts.sha256, "pack": str(options.pack), **values})
    if options.coco_dir:
        write_json(options.coco_dir / "ground_truth.json", to_coco(truth, names), indent=None)
        results = to_coco_results(found, options.selection.max_detections)
        write_json(options.coco_dir / "detections.json", results, indent=None)


if __name__ == "__main__":
    cli.run(main)
