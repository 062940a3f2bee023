"""What comes with the project works out of the box and says what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from accuracy_evaluation.evaluation_on_widerface import Options, evaluate
from detection.detector import DEFAULT_MODEL, Detector
from detection.hiding import hide
from lffd.boxes import iou
from lffd.engines.runtime import Runtime
from lffd.graphs.model import load_model
from lffd.images.files import read_image
from symbol_farm.trained_models import shipped_models
from tests.conftest import PROJECT

MODELS = shipped_models()
EXAMPLES = {"family": 5, "group": 12, "marching": 12}
"""Pictures of `docs/examples`, and how many faces must be found in each at the least."""


@pytest.mark.parametrize("name", MODELS)
def test_a_shipped_model_is_small_and_says_what_it_is(name: str) -> None:
    folder = MODELS[name]
    assert (folder / "model.params").stat().st_size < 7_000_000
    model = load_model(folder)
    card = model.card
    assert card["version"] == model.network.name
    assert {"data", "preset", "iterations", "images_seen", "minutes", "experiment"} <= set(card["training"])
    figures = card["accuracy"][0]
    assert min(figures["easy"], figures["medium"], figures["hard"]) > 0.5
    assert figures["images"] == 308
    assert name in figures["command"]
    assert card["weaknesses"]
    assert 0 < card["score_threshold"] < 1
    assert not [text for text in ("/work", "/tmp", "/home") if text in (folder / "card.json").read_text()]


def test_the_default_is_the_best_one() -> None:
    def quality(name: str) -> float:
        figures = load_model(MODELS[name]).card["accuracy"][0]
        return float(figures["easy"] + figures["medium"] + figures["hard"])

    assert max(MODELS, key=quality) == DEFAULT_MODEL


@pytest.mark.parametrize("name", MODELS)
def test_faces_are_found_in_the_examples(name: str) -> None:
    detector = Detector.load(name)
    for picture, least in EXAMPLES.items():
        found = detector(read_image(PROJECT / "docs" / "examples" / f"{picture}.jpg"))
        assert int((found.scores > 0.5).sum()) >= least, picture


@pytest.mark.parametrize("how", ["blur", "pixelate"])
def test_hidden_faces_are_hardly_found_again(how: Literal["blur", "pixelate"]) -> None:
    """Less than recognising somebody is to see that there is a face; even that fails for nearly all."""
    detector, before, after = Detector.load(DEFAULT_MODEL), 0, 0
    for picture in EXAMPLES:
        image = read_image(PROJECT / "docs" / "examples" / f"{picture}.jpg")
        found = detector(image)
        again = detector(hide(image, found.boxes, how))
        before += len(found)
        after += int((iou(found.boxes, again.boxes) > 0.3).any(axis=1).sum())
    assert before >= 29
    assert after <= before / 10


@pytest.mark.parametrize("name", MODELS)
def test_accuracy_on_real_photos(name: str, shared: Path, tmp_path: Path) -> None:
    real = shared / "data" / "widerface"
    for image in sorted((real / "WIDER_val" / "images").glob("*/*.jpg"))[::10]:
        link = tmp_path / "images" / image.parent.name / image.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(image)
    figures, _ = evaluate(
        Options(
            model=name,
            images=tmp_path / "images",
            ground_truth=real / "wider_face_split",
            output_dir=tmp_path / "out",
            runtime=Runtime("onnxruntime"),
        )
    )
    said = load_model(MODELS[name]).card["accuracy"][0]
    for subset in ("easy", "medium", "hard"):
        assert figures[subset] > said[subset] - 0.08, "a tenth of the images, some of the easier ones"
