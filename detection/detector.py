"""Our networks as detectors: an image of any size in, detections out.

```python
from lffd import Detector

detector = Detector.load("face_light")
detections = detector("photo.jpg")  # or a PIL image, or uint8 (H, W, 3), BGR, 0-255
detections.boxes, detections.scores  # float32 (N, 4) x0, y0, x1, y1 in pixels, and (N,), best first
```
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from detection.decoding import Candidates, decode, join
from detection.detections import Detections, check_image
from detection.pictured import ColorOrder, PicturedDetections, to_pixels
from detection.selection import Selection
from detection.tiling import plan_tiles, smallest_tile, working_bytes_per_pixel
from detection.views import View, ViewSettings, plan_views, used_branches
from lffd import boxes as bx
from lffd.engines import BranchMaps, Engine
from lffd.engines.factory import create_engine
from lffd.engines.runtime import Runtime
from lffd.errors import UsageError
from lffd.graphs.cut import keep_branches
from lffd.graphs.model import Model
from symbol_farm.versions import VERSIONS

if TYPE_CHECKING:
    from PIL.Image import Image

DEFAULT_MODEL = "face_light"

PREDICTION = Selection(score_threshold=0.5, top_k=10_000, suppression_threshold=0.4)
"""What is shown to people: fewer and surer detections than an evaluation wants."""

MAX_BATCH = 16

OTHER_OBJECTS = ("head", "pedestrian", "plate")
"""What the versions of these names find; all others find faces."""


class Detector:
    """One network ready to run; an `ImageDetector`. Use it from one thread at a time.

    `object_name` is what it finds, for labels: that of the model's card, or what its version is made for. `network`
    is the declaration with all branches, also those that are cut off.
    """

    def __init__(
        self,
        model: Model,
        selection: Selection = PREDICTION,
        views: ViewSettings | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        """Cut the branches that are not used, and start the engine; see `load`."""
        self.name = model.network.name
        version = next((short for short, full in VERSIONS.items() if full == self.name), "").partition("_")[0]
        self.object_name = str(model.card.get("object_name") or (version if version in OTHER_OBJECTS else "face"))
        self.network = model.network
        self.has_landmarks = "landmarks" in model.network.outputs
        self.selection = selection
        self.views = views or ViewSettings()
        self._model, self._runtime = model, runtime
        self._kept = used_branches(model.network, self.views)
        # A quantised graph comes as a whole: unused branches are computed and ignored.
        if runtime is not None and runtime.precision == "int8":
            self._kept = tuple(range(len(model.network.branches)))
        cut = keep_branches(model, self._kept)
        self._cut_network = cut.network
        self.engine: Engine = create_engine(cut, runtime)
        self._max_pixels = int(self.views.tile_memory * 2**20 / working_bytes_per_pixel(cut.network, self.engine.name))

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] = DEFAULT_MODEL,
        selection: Selection = PREDICTION,
        views: ViewSettings | None = None,
        *,
        engine: str = "auto",
        device: str = "cpu",
        threads: int | None = None,
        precision: str = "fp32",
    ) -> Detector:
        """Return the detector of a model.

        Args:
            model: a shipped name or version, a model directory, or a published checkpoint as `VERSION=FILE.params`.
            selection: which candidates become detections.
            views: at which sizes it looks at an image; once at the image's own size by default.
            engine: a name from `lffd.engines.factory`, or `auto` for the fastest that is installed.
            device: `cpu`, `gpu:0`, …
            threads: of the CPU; the engine's own choice when None.
            precision: `fp32`, or what else the engine offers, see `lffd.engines.runtime.Runtime`.

        Raises:
            ModelError: when the model cannot be found or is damaged.
            EngineError: when the engine is missing or cannot do this.
            UsageError: for settings that do not go with the network.
        """
        from symbol_farm.trained_models import resolve_model

        return cls(resolve_model(model), selection, views, Runtime(engine, device, threads, precision))

    def __call__(
        self, image: str | os.PathLike[str] | Image | NDArray[np.uint8], color_order: ColorOrder = "BGR"
    ) -> PicturedDetections:
        """Return what is in an image of any size; large ones are run in tiles.

        Boxes are in the image's pixels, clipped to it, each with the branch that found it, and with the five points of
        its face where the network finds them; points are not clipped. A notebook shows the result as a picture.

        Args:
            image: a file's name, a PIL image, or an array `(H, W, 3)` uint8, 0–255; see `pictured.to_pixels`.
            color_order: of an array, `BGR` as OpenCV has it or `RGB`.

        Raises:
            UsageError: when the image has another shape or type.
            DataError: when a file cannot be read.
            EngineError: when the engine fails.
        """
        pixels = to_pixels(image, color_order)
        return PicturedDetections(**vars(self.batch([pixels])[0]), pixels=pixels, label=self.object_name)

    def batch(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """Return what is in each image `(H, W, 3)` uint8 BGR; those of one size run through the network together."""
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, image in enumerate(images):
            check_image(image)
            groups[image.shape[0], image.shape[1]].append(index)
        found: dict[int, list[Candidates]] = defaultdict(list)
        for (height, width), members in groups.items():
            views = plan_views(self.network, self.views, height, width)
            able = self if {branch for view in views for branch in view.branches} <= set(self._kept) else self._uncut
            for view in views:
                back = _back(view, width, height)
                for index, part in able._look(images, members, view):
                    found[index].append(part.scaled(*back))
        return [self._select(join(found[index]), image.shape) for index, image in enumerate(images)]

    @cached_property
    def _uncut(self) -> Detector:
        """The same with all branches, for small images, which are enlarged, and their faces with them."""
        return Detector(self._model, self.selection, replace(self.views, max_face=None), self._runtime)

    def _look(
        self, images: Sequence[NDArray[np.uint8]], members: Sequence[int], view: View
    ) -> Iterator[tuple[int, Candidates]]:
        """Yield candidates in the view's pixels for images of one size, with the index of the image."""
        height, width = (self._cut_network.fitting(side) for side in view.canvas or (view.height, view.width))
        count = max(1, min(MAX_BATCH, self._max_pixels // (height * width)))
        for start in range(0, len(members), count):
            chunk = members[start : start + count]
            pixels = [_fit(images[index], view, height, width) for index in chunk]
            if height * width > self._max_pixels:
                yield chunk[0], self._tiled(pixels[0], view)
                continue
            maps = self.engine.run(np.stack(pixels) if len(chunk) > 1 else pixels[0][None])
            for row, index in enumerate(chunk):
                yield index, self._decode(maps, view, row)

    def _tiled(self, pixels: NDArray[np.uint8], view: View) -> Candidates:
        """Return the candidates of a large view, tile by tile; the same as from the whole at once."""
        found = join([])
        height, width = pixels.shape[:2]
        if (needed := smallest_tile(self._cut_network, height, width)) > self._max_pixels:
            memory = math.ceil(needed * working_bytes_per_pixel(self._cut_network, self.engine.name) / 2**20)
            what = f"tile_memory of {self.views.tile_memory:g} MB is too little for {self.name}"
            raise UsageError(f"{what}: a {width}x{height} image needs at least {memory} MB")
        for tile in plan_tiles(self._cut_network, height, width, self._max_pixels):
            part = pixels[tile.rows.start : tile.rows.stop, tile.columns.start : tile.columns.stop]
            maps = tile.crop(self.engine.run(np.ascontiguousarray(part)[None]))
            found = join([found, self._decode(maps, view, 0, tile.first_cells)]).best(self.selection.top_k)
        return found

    def _decode(
        self, maps: Sequence[BranchMaps], view: View, row: int, first_cells: list[tuple[int, int]] | None = None
    ) -> Candidates:
        """Return the candidates of one image; branches by their index in the whole network."""
        asked = [position for position, branch in enumerate(self._kept) if branch in view.branches]
        branches = [self.network.branch_geometry[self._kept[position]] for position in asked]
        limits = (self.selection.score_threshold, self.selection.top_k)
        first = None if first_cells is None else [first_cells[position] for position in asked]
        return decode([maps[position] for position in asked], branches, *limits, row=row, first_cells=first)

    def _select(self, candidates: Candidates, shape: Sequence[int]) -> Detections:
        """Return the detections among an image's candidates."""
        clipped = bx.clip(candidates.boxes, shape[1], shape[0])
        # The published rule compares boxes as they are after clipping; IoU is that of the boxes as they were found.
        compared = clipped if self.selection.overlap == "own-area" else candidates.boxes
        kept = self.selection.select(compared, candidates.scores)
        kept = kept[bx.areas(clipped[kept]) > 0]
        landmarks = None if candidates.landmarks is None else candidates.landmarks[kept]
        return Detections(clipped[kept], candidates.scores[kept], landmarks, candidates.branches[kept])


def _back(view: View, width: int, height: int) -> tuple[float, float]:
    """Return by what x and y of a view are multiplied to get those of the image.

    A letterbox has one factor for both, which the rounding of the shorter side does not change.
    """
    if view.canvas is None or (view.height, view.width) == view.canvas:
        return width / view.width, height / view.height
    factor = max(width / view.canvas[1], height / view.canvas[0])
    return factor, factor


def _fit(image: NDArray[np.uint8], view: View, height: int, width: int) -> NDArray[np.uint8]:
    """Return the image resized to the view and padded with black, right and below, to `height` × `width`."""
    import cv2

    if image.shape[:2] != (view.height, view.width):
        # Detectors with an input of a prescribed size were trained, and are measured, on images that were interpolated.
        smaller = view.height < image.shape[0] and view.canvas is None
        method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        image = np.asarray(cv2.resize(image, (view.width, view.height), interpolation=method), np.uint8)
    if image.shape[:2] == (height, width):
        return image
    padded = np.zeros((height, width, 3), np.uint8)
    padded[: image.shape[0], : image.shape[1]] = image
    return padded
