"""The detector with real maps (tiles, batches) and with an engine that knows the answer (views, clipping, sizes)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detection import detector as module
from detection.decoding import Candidates
from detection.detections import Detections
from detection.detector import Detector
from detection.load import load_detector
from detection.selection import Selection
from detection.tiling import plan_tiles, smallest_tile, working_bytes_per_pixel
from detection.views import ViewSettings
from lffd.engines import BranchMaps
from lffd.engines.mxnet_engine import MXNetEngine
from lffd.engines.runtime import Runtime
from lffd.errors import DataError, UsageError
from lffd.graphs.model import Model, save_model
from lffd.graphs.network import Network
from tests.factories import random_model
from tests.oracle import OracleEngine, scene

SMALL_TILES = ViewSettings(tile_memory=200)


def _noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make detectors whose engine finds white rectangles."""

    def create(model: Model, *_: Any) -> OracleEngine:
        return OracleEngine(model.network)

    monkeypatch.setattr(module, "create_engine", create)

    def make(version: str = "v2", **views: Any) -> Detector:
        return Detector(random_model(version), views=ViewSettings(**views))

    return make


def _plausible(model: Model) -> Model:
    """The model with boxes around their cells and scores around a half; random weights turn boxes inside out."""
    params = dict(model.params)
    for name, value in model.params.items():
        if name.endswith("_3_bbox_weight") or name.endswith("_3_score_weight"):
            params[name] = value * np.float32(0.05)
        if name.endswith("_3_bbox_bias"):
            params[name] = np.array([0.5, 0.5, -0.5, -0.5], np.float32)
    return replace(model, params=params)


def _whole_maps(network: Network, engine: MXNetEngine, image: np.ndarray, max_pixels: int) -> list[BranchMaps]:
    """Put the maps of the tiles together."""
    height, width = image.shape[:2]
    joined: list[BranchMaps] = [
        {"score": np.full((1, 1, h, w), np.nan, np.float32), "box": np.full((1, 4, h, w), np.nan, np.float32)}
        for h, w in network.map_sizes(height, width)
    ]
    tiles = plan_tiles(network, height, width, max_pixels)
    assert len(tiles) > 1
    for tile in tiles:
        part = image[tile.rows.start : tile.rows.stop, tile.columns.start : tile.columns.stop]
        maps = tile.crop(engine.run(np.ascontiguousarray(part)[None]))
        for whole, piece, (top, left) in zip(joined, maps, tile.first_cells, strict=True):
            rows, columns = (slice(at, at + n) for at, n in zip((top, left), piece["score"].shape[2:], strict=True))
            assert np.isnan(whole["score"][:, :, rows, columns]).all()
            whole["score"][:, :, rows, columns] = piece["score"]
            whole["box"][:, :, rows, columns] = piece["box"]
    return joined


@pytest.mark.parametrize(
    ("version", "height", "width"),
    [("v1", 681, 713), ("v1", 63, 1101), ("v1", 1001, 77), ("v2", 787, 803), ("v2", 133, 1101), ("v2", 1001, 127)],
)
def test_tiles_give_the_maps_of_the_whole_image(version: str, height: int, width: int) -> None:
    model = random_model(version)
    engine = MXNetEngine(model)
    image = _noise(height, width)
    tiled = _whole_maps(model.network, engine, image, smallest_tile(model.network, height, width))
    for part, whole in zip(tiled, engine.run(image[None]), strict=True):
        np.testing.assert_allclose(part["score"], whole["score"], rtol=0, atol=1e-4)
        np.testing.assert_allclose(part["box"], whole["box"], rtol=0, atol=1e-4)


def _assert_same(first: Detections, second: Detections) -> None:
    assert first.branches is not None
    assert second.branches is not None
    np.testing.assert_allclose(first.boxes, second.boxes, atol=0.02)
    np.testing.assert_allclose(first.scores, second.scores, atol=1e-4)
    assert first.branches.tolist() == second.branches.tolist()


def test_a_tiled_detector_finds_the_same() -> None:
    model = _plausible(random_model("plate_small"))
    selection = Selection(score_threshold=0.45, max_detections=40)
    image = _noise(901, 2037)
    whole = Detector(model, selection, runtime=Runtime("mxnet"))(image)
    assert len(whole) > 5
    _assert_same(Detector(model, selection, ViewSettings(tile_memory=100), Runtime("mxnet"))(image), whole)


def test_a_batch_of_mixed_sizes_is_what_single_calls_are() -> None:
    detector = Detector(
        _plausible(random_model("plate_small")), Selection(0.45, max_detections=20), runtime=Runtime("mxnet")
    )
    images = [_noise(200, 260, 1), _noise(150, 333, 2), _noise(200, 260, 3), _noise(60, 70, 4)]
    together = detector.batch(images)
    assert any(len(found) for found in together)
    for found, image in zip(together, images, strict=True):
        _assert_same(found, detector(image))
    assert detector.batch([]) == []


def test_what_comes_out(oracle: Any) -> None:
    detector = oracle()
    found = detector(scene(400, 500, (100, 50, 130, 88), (300, 200, 412, 290)))
    assert found.boxes.dtype == found.scores.dtype == np.float32
    np.testing.assert_allclose(sorted(found.boxes.tolist()), [[100, 50, 130, 88], [300, 200, 412, 290]], atol=1e-3)
    assert sorted(found.branches) == [1, 3]
    empty = detector(scene(400, 500))
    assert empty.boxes.shape == (0, 4)
    assert len(empty) == 0


def test_boxes_are_clipped_to_the_image_and_those_outside_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Beyond(OracleEngine):
        def run(self, images: np.ndarray) -> list[BranchMaps]:
            maps = super().run(images)
            for column, box in ((0, [-9, -9, 12, 14]), (30, [240, 0, 260, 20])):
                place = np.array([[3 + 4 * column, 3]], np.float32)
                maps[0]["score"][:, :, 0, column] = 0.9
                maps[0]["box"][:, :, 0, column] = self.network.branch_geometry[0].encode(np.array([box], "f"), place)
            return maps

    monkeypatch.setattr(module, "create_engine", lambda model, *_: Beyond(model.network))
    found = Detector(random_model("v2"))(scene(200, 220))
    np.testing.assert_allclose(found.boxes, [[0, 0, 12, 14]], atol=1e-3)


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [(100, 90, (20, 30, 45, 60)), (24, 24, (2, 3, 20, 22)), (1, 1, None), (3, 20_000, None), (20_000, 3, None)],
)
def test_small_and_thin_images(oracle: Any, height: int, width: int, box: tuple[int, int, int, int] | None) -> None:
    detector = oracle()
    found = detector(scene(height, width, *([box] if box else [])))
    assert len(found) == (1 if box else 0)
    if box:
        np.testing.assert_allclose(found.boxes[0], box, atol=1)
    assert all(rows * columns < 4_000_000 for _, rows, columns, _ in detector.engine.shapes)


def test_images_from_128_px_are_not_enlarged(oracle: Any) -> None:
    detector = oracle()
    for size in ((128, 300), (127, 300), (64, 64)):
        detector(scene(*size))
    assert [shape[1:3] for shape in detector.engine.shapes] == [(128, 300), (128, 302), (128, 128)]


def test_large_faces_only_means_a_smaller_image(oracle: Any) -> None:
    detector = oracle(min_face=300)
    box = (400, 200, 1000, 900)
    found = detector(scene(1200, 1600, box))
    np.testing.assert_allclose(found.boxes, [box], atol=35)
    assert max(detector.engine.shapes[0][1:3]) < 200


def test_tiny_faces_mean_a_larger_image(oracle: Any) -> None:
    image = scene(300, 400, (50, 60, 56, 66))
    assert len(oracle()(image)) == 0
    np.testing.assert_allclose(oracle(min_face=5)(image).boxes, [(50, 60, 56, 66)], atol=1)


def test_faces_beyond_the_range_need_the_pyramid(oracle: Any) -> None:
    large, small = (100, 100, 900, 1000), (1200, 40, 1225, 70)
    image = scene(1100, 1400, large, small)
    np.testing.assert_allclose(oracle()(image).boxes, [small], atol=1e-3)
    found = oracle(pyramid=True)(image)
    np.testing.assert_allclose(sorted(found.boxes.tolist()), [large, small], atol=6)


def test_each_face_is_found_once_whatever_its_size(oracle: Any) -> None:
    detector = oracle(pyramid=True)
    for side in (12, 50, 150, 310, 330, 500, 1000, 1300):
        box = (30, 50, 30 + side, 50 + side)
        found = detector(scene(1400, 1400, box))
        assert len(found) == 1, side
        np.testing.assert_allclose(found.boxes[0], box, atol=9)


def test_skipped_branches_find_nothing_and_cost_nothing(oracle: Any) -> None:
    image = scene(400, 600, (10, 10, 25, 25), (100, 100, 130, 130), (300, 100, 500, 300))
    assert sorted(oracle()(image).branches) == [0, 1, 4]
    detector = oracle(branches=(1, 2))
    assert detector(image).branches.tolist() == [1]
    assert len(detector.engine.network.branches) == 2
    limited = oracle(max_face=35)
    assert sorted(limited(image).branches) == [0, 1]
    assert len(limited.engine.network.branches) == 2


def test_quantised_graphs_are_not_cut_but_unused_branches_stay_silent(oracle: Any) -> None:
    detector = Detector(random_model("v2"), views=ViewSettings(branches=(1,)), runtime=Runtime(precision="int8"))
    assert isinstance(detector.engine, OracleEngine)
    assert len(detector.engine.network.branches) == 5
    branches = detector(scene(400, 600, (10, 10, 25, 25), (100, 100, 130, 130))).branches
    assert branches is not None
    assert branches.tolist() == [1]


def test_batches_are_bounded(oracle: Any) -> None:
    detector = oracle(tile_memory=90)
    detector.batch([scene(300, 400)] * 5)
    per_call = [shape[0] for shape in detector.engine.shapes]
    assert sum(per_call) == 5
    assert max(per_call) == int(90 * 2**20 / working_bytes_per_pixel(detector.network)) // (300 * 400) == 3
    plenty = oracle()
    plenty.batch([scene(130, 130)] * 20)
    assert [shape[0] for shape in plenty.engine.shapes] == [16, 4]


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((200, 200), np.uint8),
        np.zeros((200, 200, 4), np.uint8),
        np.zeros((200, 200, 3), np.float32),
        np.zeros((0, 200, 3), np.uint8),
        np.zeros((1, 200, 200, 3), np.uint8),
    ],
)
def test_other_inputs_are_refused(oracle: Any, image: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"must be uint8 .*H, W, 3\) in BGR order"):
        oracle()(image)


def test_too_little_tile_memory_says_how_much_is_needed(oracle: Any) -> None:
    with pytest.raises(UsageError, match=r"tile_memory of 5 MB is too little .* needs at least (\d+) MB") as caught:
        oracle(tile_memory=5)(scene(1000, 1200))
    enough = int(str(caught.value).split()[-2])
    detector = oracle(tile_memory=enough)
    assert len(detector(scene(1000, 1200, (500, 500, 530, 530)))) == 1
    assert len(detector.engine.shapes) > 1


def test_loading_by_name_of_a_directory(tmp_path: Path) -> None:
    save_model(random_model("plate_small"), tmp_path / "model")
    detector = load_detector(str(tmp_path / "model"), runtime=Runtime("mxnet"), views=SMALL_TILES)
    assert isinstance(detector, Detector)
    assert detector.name == "64_512_16L_3scales_v1_small"
    assert len(detector(_noise(150, 150))) >= 0


def test_a_largest_face_holds_in_small_images_too(oracle: Any) -> None:
    """An image that is enlarged needs deeper branches than its face does at its own size."""
    picture = scene(90, 90, (10, 12, 76, 80))
    for limit in (None, 79, 70):
        found = oracle(max_face=limit)(picture)
        assert len(found) == 1, limit
        np.testing.assert_allclose(found.boxes[0], [10, 12, 76, 80], atol=2)
    detector = oracle(max_face=79)
    assert len(detector._kept) < len(detector.network.branches)
    assert len(detector.batch([picture, scene(300, 300, (10, 12, 76, 80))])[1]) == 1


def test_the_published_suppression_compares_clipped_boxes() -> None:
    """Of the second box 30 % lie in the first one; of what is left of it inside the picture, 60 %."""
    detector = Detector(random_model("v2"), Selection(0.1, suppression_threshold=0.5, overlap="own-area"))
    boxes = np.array([[0, 0, 60, 100], [-100, 0, 100, 100]], np.float32)
    found = Candidates(boxes, np.array([0.9, 0.8], np.float32), np.zeros(2, np.int8))
    assert len(detector._select(found, (100, 100, 3))) == 1
    detector.selection = Selection(0.1, suppression_threshold=0.5, overlap="iou")
    assert len(detector._select(found, (100, 100, 3))) == 2


def test_no_memory_for_tiles_is_said_with_what_is_needed() -> None:
    detector = Detector(random_model("v2"), views=ViewSettings(tile_memory=1e-9))
    with pytest.raises(UsageError, match=r"needs at least \d+ MB"):
        detector(_noise(600, 800))


def test_what_is_no_image_is_refused() -> None:
    for wrong in (None, [[1]]):
        with pytest.raises(
            UsageError, match=r"an image is a file's name, a PIL image or a NumPy array, not (None|list)"
        ):
            Detector(random_model("v2"))(wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"photo\.jpg: cannot be read: it does not exist"):
        Detector(random_model("v2"))("photo.jpg")


@pytest.mark.parametrize(
    ("version", "card", "name"),
    [
        ("v2", {}, "face"),
        ("nano", {}, "face"),
        ("plate_small", {}, "plate"),
        ("head", {}, "head"),
        ("v2", {"object_name": "cat"}, "cat"),
    ],
)
def test_a_model_says_what_it_finds(version: str, card: dict[str, str], name: str) -> None:
    assert Detector(replace(random_model(version), card=card)).object_name == name
